//! The host's network, as far as a sandbox was given it. Linux names the behaviour: what is the host's socket answers as
//! the host does.

mod common;

use common::{Link, as_user, compile, native, run, sandboxed};
use std::io::Write;
use std::net::{TcpListener, UdpSocket};
use std::thread;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// Answers each connection to a port of the host's loopback with a line; the port.
fn greeter() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(b"hello\n");
        }
    });
    port
}

/// A shell's command that connects to a port of the loopback and prints what comes.
fn ask(port: u16) -> String {
    format!("exec 3<>/dev/tcp/127.0.0.1/{port} && cat <&3")
}

#[test]
fn the_hosts_loopback_is_reached_only_with_its_network() {
    let script = ask(greeter());
    for rewrite in ["on", "off"] {
        let out = run(&mut sandboxed(&["--net", "host", "--rewrite", rewrite], &["bash", "-c", &script]), LIMIT);
        assert_eq!((out.status, out.stdout.as_str()), (0, "hello\n"), "{}", out.stderr);
    }
    for net in ["none", "loopback"] {
        let out = run(&mut sandboxed(&["--net", net], &["bash", "-c", &script]), LIMIT);
        assert_eq!((out.status, out.stdout.as_str()), (1, ""), "{net}: {}", out.stderr);
    }
}

/// In every jail, and not beyond: a new network namespace within the sandbox is its own.
#[test]
fn the_hosts_network_in_each_jail() {
    let script = ask(greeter());
    for jail in ["auto", "strict", "off"] {
        let out = run(&mut sandboxed(&["--net", "host", "--jail", jail], &["bash", "-c", &script]), LIMIT);
        assert_eq!((out.status, out.stdout.as_str()), (0, "hello\n"), "{jail}: {}", out.stderr);
    }
    let inner = format!("unshare -Urn bash -c '{script}'");
    let out = run(&mut sandboxed(&["--net", "host"], &["bash", "-c", &inner]), LIMIT);
    assert_eq!((out.status, out.stdout.as_str()), (1, ""), "{}", out.stderr);
}

/// A datagram to a socket of the host, which says whom it came from.
#[test]
fn datagrams_reach_the_host() {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.set_read_timeout(Some(LIMIT)).expect("a time");
    let port = socket.local_addr().expect("it is bound").port();
    let script = format!("echo -n hi >/dev/udp/127.0.0.1/{port}");
    let out = run(&mut sandboxed(&["--net", "host"], &["bash", "-c", &script]), LIMIT);
    assert_eq!(out.status, 0, "{}", out.stderr);
    let mut buf = [0; 16];
    let (n, from) = socket.recv_from(&mut buf).expect("it came");
    assert_eq!((&buf[..n], from.ip().is_loopback()), (&b"hi"[..], true));
}

/// Guest programs about sockets, natively and with the host's network.
#[test]
fn sockets_of_the_host_answer_as_natively() {
    // What a privilege over the host's network changes is apart.
    for name in ["udp", "tcp_closing", "sockopts", "multicast", "polling", "datagrams", "local_errors"] {
        let Some(path) = compile(name, Link::Dynamic) else { continue };
        let program = [path.to_str().expect("ASCII path")];
        let expected = run(&mut native(&program), LIMIT);
        for rewrite in ["on", "off"] {
            let got = run(&mut sandboxed(&["--net", "host", "--rewrite", rewrite], &program), LIMIT);
            assert_eq!((got.status, &got.stdout), (expected.status, &expected.stdout), "{name} with {rewrite}");
        }
    }
}

/// A program without the capabilities has no more of the host's network than natively, whoever started the sandbox.
#[test]
fn an_ordinary_user_inside_binds_no_low_port() {
    if as_user() {
        return;
    }
    let script = "import socket, errno\ntry: socket.socket().bind(('127.0.0.1', 81)); print('bound')\n\
                  except OSError as e: print(errno.errorcode[e.errno])\n\
                  try: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1); print('raw')\n\
                  except OSError as e: print(errno.errorcode[e.errno])";
    if !common::has("python3") {
        return;
    }
    let out = run(&mut sandboxed(&["--net", "host", "--user", "1000:1000"], &["python3", "-c", script]), LIMIT);
    assert_eq!(out.stdout, "EACCES\nEPERM\n", "{}", out.stderr);
}
