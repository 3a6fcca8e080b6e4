//! The host's network, as far as a sandbox was given it. Linux names the behaviour: what is the host's socket answers as
//! the host does.

mod common;

use common::{Link, as_user, compile, drupe, has, native, run, sandboxed};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

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
    if !has("python3") {
        return;
    }
    let out = run(&mut sandboxed(&["--net", "host", "--user", "1000:1000"], &["python3", "-c", script]), LIMIT);
    assert_eq!(out.stdout, "EACCES\nEPERM\n", "{}", out.stderr);
}

/// A sandbox that runs until this goes.
struct Running(Child);

impl Running {
    fn start(options: &[&str], program: &[&str]) -> Running {
        let mut command = sandboxed(options, program);
        common::as_tested(&mut command);
        Running(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("it starts"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ =
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.0.id() as i32), nix::sys::signal::Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

/// A port of the host's loopback that was free just now.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port()
}

/// Connects, once the server inside is there: before, connections are reset.
fn connect(port: u16) -> TcpStream {
    let start = Instant::now();
    loop {
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) {
            stream.set_read_timeout(Some(LIMIT)).expect("a time");
            let mut byte = [0];
            if matches!(stream.read(&mut byte), Ok(1)) {
                return stream;
            }
        }
        assert!(start.elapsed() < LIMIT, "no server at {port}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Greets with a byte, reads up to the end of data, and sends it back.
const ECHO: &str = "import socket, threading, sys\n\
    def serve(c):\n \
     c.sendall(b'+'); d = b''\n \
     while (p := c.recv(65536)): d += p\n \
     c.sendall(d); c.close()\n\
    s = socket.socket(socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET)\n\
    if ':' in sys.argv[1]: s.setsockopt(41, 26, 1)\n\
    s.bind((sys.argv[1], 7000)); s.listen(64)\n\
    while True: threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()";

/// Many connections at once, each with its end of data before its answer, to servers of both versions.
#[test]
fn a_published_port_leads_to_a_server_inside() {
    if !has("python3") {
        return;
    }
    for (address, jail) in [("127.0.0.1", "auto"), ("0.0.0.0", "off"), ("::1", "strict")] {
        let port = free_port();
        let publish = format!("{port}:7000");
        let _server = Running::start(&["--publish", &publish, "--jail", jail], &["python3", "-c", ECHO, address]);
        drop(connect(port));
        let clients: Vec<_> = (0..20u8)
            .map(|i| {
                thread::spawn(move || {
                    let mut stream = connect(port);
                    let data: Vec<u8> = (0..300_000u32).map(|n| (n as u8).wrapping_mul(i)).collect();
                    stream.write_all(&data).expect("it is taken");
                    stream.shutdown(Shutdown::Write).expect("it is connected");
                    let mut back = Vec::new();
                    stream.read_to_end(&mut back).expect("it comes back");
                    assert!(back == data, "{} bytes came back", back.len());
                })
            })
            .collect();
        clients.into_iter().for_each(|c| c.join().expect("a client"));
    }
}

/// A server that does not read has its writer wait.
#[test]
fn a_published_port_slows_who_writes() {
    if !has("python3") {
        return;
    }
    let port = free_port();
    let script = "import socket, time\ns = socket.socket(); s.bind(('127.0.0.1', 7000)); s.listen(5)\n\
                  while True: c = s.accept()[0]; c.sendall(b'+'); time.sleep(30)";
    let _server = Running::start(&["--publish", &format!("{port}:7000")], &["python3", "-c", script]);
    let mut stream = connect(port);
    stream.set_write_timeout(Some(Duration::from_secs(1))).expect("a time");
    let piece = vec![0; 1 << 20];
    let mut taken = 0;
    let refused = loop {
        match stream.write(&piece) {
            Ok(n) => taken += n,
            Err(e) => break e,
        }
        assert!(taken < 64 << 20, "nothing stops it");
    };
    assert_eq!(refused.kind(), ErrorKind::WouldBlock, "{refused}");
}

/// A page of an nginx inside, as a program on the host sees it.
#[test]
fn a_published_nginx_is_read_from_the_host() {
    if !has("nginx") || !has("curl") {
        return;
    }
    let port = free_port();
    let script = "d=$(mktemp -d) && cd $d && chmod 755 $d && seq 20000 >page && printf '%s\n' \
        'daemon off; master_process off; pid pid; error_log stderr;' 'events {}' \
        \"http { access_log off; server { listen 127.0.0.1:7000; root $d; } }\" >conf && \
        exec nginx -p $d -c $d/conf";
    let _server = Running::start(&["--publish", &format!("{port}:7000")], &["sh", "-c", script]);
    let url = format!("http://127.0.0.1:{port}/page");
    let mut curl = std::process::Command::new("curl");
    curl.args(["-s", "--retry", "50", "--retry-all-errors", "--retry-delay", "0", "--max-time", "50", &url]);
    let out = run(&mut curl, LIMIT);
    let page: String = (1..=20_000).map(|n| format!("{n}\n")).collect();
    assert!(out.stdout == page, "{} bytes: {}", out.stdout.len(), out.stderr);
}

/// Dummy interfaces, which not every host has: their addresses are the sandbox's own, what leaves by them is lost.
#[test]
fn interfaces_can_be_made() {
    if !has("ip") {
        return;
    }
    let script = "ip link add d0 type dummy && ip link set d0 up mtu 1400 && ip addr add 10.5.0.1/24 dev d0 &&
        ip route add 10.6.0.0/16 via 10.5.0.9 && ip route add unreachable 10.8.0.0/16 && ip route &&
        ip route get 10.6.1.1 | head -1 && ip neigh add 10.5.0.9 lladdr 02:00:00:00:00:09 dev d0 && ip neigh &&
        ip link add v0 type veth; ip link set d0 master lo; ip link add d0 type dummy; ip link del d0; ip route";
    let out = run(&mut sandboxed(&[], &["sh", "-c", script]), LIMIT);
    let told = "10.5.0.0/24 dev d0 proto kernel scope link src 10.5.0.1 \n10.6.0.0/16 via 10.5.0.9 dev d0 \n\
        unreachable 10.8.0.0/16 \n10.6.1.1 via 10.5.0.9 dev d0 src 10.5.0.1 uid 0 \n\
        10.5.0.9 dev d0 lladdr 02:00:00:00:00:09 PERMANENT \nunreachable 10.8.0.0/16 \n";
    assert_eq!(out.stdout, told, "{}", out.stderr);
    let refused = "Error: Unknown device type.\nRTNETLINK answers: Operation not supported\n\
        RTNETLINK answers: File exists\n";
    assert_eq!(out.stderr, refused);
}

/// What cannot be published, or allowed, is said before anything starts.
#[test]
fn what_is_wrong_is_said_first() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("it is bound").port();
    let used = format!("{port}:80");
    let cases = [
        (vec!["--publish", &used], format!("127.0.0.1:{port}: Address already in use")),
        (vec!["--publish", "80"], "not [ADDR:]HOST:GUEST".into()),
        (vec!["--publish", "80:80/udp"], "UDP ports cannot be published".into()),
        (vec!["--publish", "18080:80", "--net", "none"], "no network".into()),
        (vec!["--publish", "18080:80", "--net", "host"], "the host's already".into()),
        (vec!["--allow", "localhost:80"], "the sandbox's own loopback".into()),
        (vec!["--allow", "nowhere.invalid"], "nowhere.invalid: the name is not to be found".into()),
        (vec!["--allow", "a:b:c"], "not HOST[:PORT]".into()),
        (vec!["--allow", "192.0.2.1", "--net", "none"], "no network".into()),
    ];
    for (options, message) in cases {
        let out = run(&mut sandboxed(&options, &["echo", "started"]), LIMIT);
        assert!(out.status != 0 && out.stdout.is_empty(), "{options:?} {out:?}");
        assert!(out.stderr.contains(&message), "{options:?}: {}", out.stderr);
    }
}

/// An address of this host that is not of its loopback, if it has one.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nothing is sent.
    socket.connect("192.0.2.1:9").ok()?;
    socket.local_addr().ok().map(|a| a.ip()).filter(|ip| !ip.is_loopback())
}

/// Greets at an address, on a port of its own.
fn greeter_at(ip: IpAddr) -> u16 {
    let listener = TcpListener::bind((ip, 0)).expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(b"hello\n");
        }
    });
    port
}

#[test]
fn only_what_is_allowed_is_reached() {
    let Some(ip) = own_address() else {
        eprintln!("skipped: this host has no network");
        return;
    };
    let (one, other) = (greeter_at(ip), greeter_at(ip));
    let ask = |port: u16| format!("(exec 3<>/dev/tcp/{ip}/{port} && cat <&3) 2>&1 | sed 's/.*: //'");
    let both = format!("{}; {}", ask(one), ask(other));
    let port = format!("{ip}:{one}");
    let any = ip.to_string();
    let refused = "Network is unreachable\n";
    for (options, expected) in [
        (vec![], format!("{refused}{refused}")),
        (vec!["--allow", &port], format!("hello\n{refused}")),
        (vec!["--allow", &any], "hello\n".into()),
        (vec!["--allow", "192.0.2.77", "--jail", "strict"], format!("{refused}{refused}")),
    ] {
        let out = run(&mut sandboxed(&options, &["bash", "-c", &both]), LIMIT);
        // The shell says why twice.
        let mut lines: Vec<_> = out.stdout.lines().collect();
        lines.dedup();
        let mut expected: Vec<_> = expected.lines().collect();
        expected.dedup();
        assert_eq!(lines, expected, "{options:?} {}", out.stderr);
    }
    // Nobody listens there.
    let nobody = TcpListener::bind((ip, 0)).and_then(|l| l.local_addr()).expect("a free port").port();
    let out = run(&mut sandboxed(&["--allow", &any], &["bash", "-c", &ask(nobody)]), LIMIT);
    assert!(out.stdout.contains("Connection refused"), "{out:?}");
}

/// More is allowed while the sandbox runs, by its name; not where nothing was.
#[test]
fn more_is_allowed_later() {
    let Some(ip) = own_address() else {
        eprintln!("skipped: this host has no network");
        return;
    };
    let port = greeter_at(ip);
    let name = format!("network-{}", std::process::id());
    let script = format!("until exec 3<>/dev/tcp/{ip}/{port}; do sleep 0.05; done 2>/dev/null; cat <&3");
    let mut command = sandboxed(&["--name", &name, "--allow", "192.0.2.77:1"], &["bash", "-c", &script]);
    common::as_tested(&mut command);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("it starts");
    let start = Instant::now();
    loop {
        let out = run(&mut drupe(&["allow", &name, &format!("{ip}:{port}")]), LIMIT);
        if out.status == 0 {
            break;
        }
        assert!(start.elapsed() < LIMIT, "{}", out.stderr);
        thread::sleep(Duration::from_millis(50));
    }
    let out = child.wait_with_output().expect("it ends");
    assert_eq!(String::from_utf8_lossy(&out.stdout), "hello\n");
}
