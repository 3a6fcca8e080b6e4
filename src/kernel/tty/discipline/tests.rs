use super::*;
use crate::abi::linux::{ECHOK, OPOST};

/// What the master reads.
fn screen(s: &mut State) -> String {
    let mut out = Vec::new();
    while !s.output.is_empty() {
        let front = s.output.front().to_vec();
        s.output.skip(front.len());
        out.extend(front);
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// What the slave reads at once.
fn read(s: &mut State, most: usize) -> Option<String> {
    let lines = s.termios.lines();
    if s.line.readable(lines) == 0 {
        return None;
    }
    let (mut out, mut over) = (Vec::new(), false);
    while !over && out.len() < most && s.line.readable(lines) > 0 {
        let (bytes, taken, ends) = s.line.next(lines, most - out.len());
        out.extend_from_slice(bytes);
        s.line.skip(taken, ends);
        over = ends;
    }
    s.pump(&mut Effects::default());
    Some(String::from_utf8_lossy(&out).into_owned())
}

fn keys(s: &mut State, text: &str) -> Effects {
    let mut fx = Effects::default();
    assert_eq!(s.input(text.as_bytes(), &mut fx), Ok(text.len()));
    fx
}

#[test]
fn lines_are_edited_and_echoed() {
    let mut s = State::new();
    keys(&mut s, "cax\x7fz\t1\x7f\x7f\x7ft two\x17one\x16\x03\r");
    assert_eq!(
        screen(&mut s),
        "cax\x08 \x08z\t1\x08 \x08\x08\x08\x08\x08\x08\x08 \x08t two\x08 \x08\x08 \x08\x08 \x08one^\x08^C\r\n"
    );
    assert_eq!(read(&mut s, 100).as_deref(), Some("cat one\x03\n"));
    keys(&mut s, "gone\x15kept\x04");
    assert_eq!(screen(&mut s), "gone\x08 \x08\x08 \x08\x08 \x08\x08 \x08kept");
    assert_eq!(read(&mut s, 100).as_deref(), Some("kept"));
    keys(&mut s, "\x04");
    assert_eq!(read(&mut s, 100).as_deref(), Some(""));
    assert_eq!(read(&mut s, 100), None);
}

#[test]
fn a_killed_line_is_shown_as_told() {
    let mut s = State::new();
    let mut t = s.termios;
    t.lflag &= !ECHOKE;
    s.set_termios(t, &mut Effects::default());
    keys(&mut s, "ab\x15");
    assert_eq!(screen(&mut s), "ab^U\r\n");
    t.lflag = t.lflag & !(ECHOK | ECHOE) | ECHOPRT;
    s.set_termios(t, &mut Effects::default());
    keys(&mut s, "abc\x7f\x7fd\n");
    assert_eq!(screen(&mut s), "abc\\cb/d\r\n");
    assert_eq!(read(&mut s, 100).as_deref(), Some("ad\n"));
}

#[test]
fn signals_drop_what_was_typed() {
    let mut s = State::new();
    let fx = keys(&mut s, "typed\x03more\n");
    assert_eq!(fx.signals, 1 << SIGINT);
    assert_eq!(read(&mut s, 100).as_deref(), Some("more\n"));
    // Nor is what was echoed, and not read, still shown.
    assert_eq!(screen(&mut s), "^Cmore\r\n");
    let mut t = s.termios;
    t.lflag |= NOFLSH;
    s.set_termios(t, &mut Effects::default());
    assert_eq!(keys(&mut s, "a\x1c\x1ab\n").signals, 1 << SIGQUIT | 1 << SIGTSTP);
    assert_eq!(read(&mut s, 100).as_deref(), Some("ab\n"));
}

#[test]
fn stopped_output_keeps_its_echoes() {
    let mut s = State::new();
    let mut fx = Effects::default();
    keys(&mut s, "\x13hidden");
    assert_eq!((screen(&mut s).as_str(), s.write(b"x", &mut fx)), ("", Ok(0)));
    keys(&mut s, "\x11");
    assert_eq!(screen(&mut s), "hidden");
    assert_eq!(s.write(b"a\tb\nc", &mut fx), Ok(5));
    assert_eq!(screen(&mut s), "a\tb\r\nc");
}

#[test]
fn a_line_without_an_end_keeps_its_beginning() {
    let mut s = State::new();
    let mut t = s.termios;
    t.lflag &= !ECHO;
    s.set_termios(t, &mut Effects::default());
    let mut long = "a".repeat(4095);
    long.push_str("bcd\n");
    keys(&mut s, &long);
    assert_eq!(read(&mut s, 4096).map(|l| (l.len(), l.ends_with("aa\n"))), Some((4096, true)));
    // With a line that can be read the rest waits.
    keys(&mut s, "one\n");
    for _ in 0..3 {
        keys(&mut s, &"x".repeat(4000));
    }
    assert_eq!(s.backlog.len(), 4 + 12000 - 4095);
    keys(&mut s, "\x13");
    assert_eq!(s.write(b"x", &mut Effects::default()), Ok(0), "stopped by what waits");
    assert_eq!(read(&mut s, 100).as_deref(), Some("one\n"));
    assert_eq!(s.backlog.len(), 0, "nothing can be read, so the line takes what comes and loses it");
}

#[test]
fn the_mode_can_change_with_input_there() {
    let mut s = State::new();
    keys(&mut s, "part");
    assert_eq!(read(&mut s, 10), None);
    let mut t = s.termios;
    t.lflag &= !ICANON;
    s.set_termios(t, &mut Effects::default());
    assert_eq!(read(&mut s, 2).as_deref(), Some("pa"));
    t.lflag |= ICANON;
    s.set_termios(t, &mut Effects::default());
    assert_eq!(read(&mut s, 10).as_deref(), Some("rt"));
}

#[test]
fn the_master_is_told_in_packet_mode() {
    let mut s = State::new();
    s.packet = true;
    keys(&mut s, "\x13");
    assert_eq!(core::mem::take(&mut s.status), 4);
    keys(&mut s, "\x11\x03");
    assert_eq!(core::mem::take(&mut s.status), 1 | 2 | 8);
    let mut t = s.termios;
    t.iflag &= !IXON;
    s.set_termios(t, &mut Effects::default());
    assert_eq!(core::mem::take(&mut s.status), TIOCPKT_NOSTOP as u8);
    t.lflag |= EXTPROC;
    t.oflag &= !OPOST;
    s.set_termios(t, &mut Effects::default());
    assert_eq!(core::mem::take(&mut s.status), TIOCPKT_IOCTL as u8);
    keys(&mut s, "\x03\n");
    assert_eq!(s.line.len(), 2);
}
