//! Names and texts that need no process.

use super::*;
use crate::cred::Cred;
use crate::task::kernel;

fn ctx(cred: &Cred) -> OpCtx<'_> {
    OpCtx { cred, tgid: 7, tid: 9, fsize_limit: u64::MAX, umask: 0 }
}

fn find(path: &str) -> Result<Node> {
    path.split('/').try_fold(Node::Root, |node, name| node.child(&kernel().roots().pid, name.as_bytes()))
}

#[test]
fn own_links_lead_to_the_caller() {
    let cred = Cred::new(0, 0, Vec::new());
    let link =
        |name: &str| inode(find(name).expect("there"), &kernel().roots().pid).read_link(&ctx(&cred)).expect("a link");
    assert_eq!(link("self"), b"7");
    assert_eq!(link("thread-self"), b"7/task/9");
    assert_eq!(link("mounts"), b"self/mounts");
}

#[test]
fn settings_form_directories() {
    let names = |node: Node| {
        node.children(&kernel().roots().pid).expect("a directory").into_iter().map(|(n, _)| n).collect::<Vec<_>>()
    };
    assert_eq!(names(Node::Sys("")), [&b"abi"[..], b"fs", b"kernel", b"net", b"user", b"vm"]);
    assert!(names(find("sys/kernel").expect("there")).contains(&b"random".to_vec()));
    let cred = Cred::new(0, 0, Vec::new());
    let text = |p: &str| {
        String::from_utf8(
            find(p)
                .expect("there")
                .text(&process::View { ctx: &ctx(&cred), pids: &kernel().roots().pid, whole: true })
                .expect("text"),
        )
        .expect("utf-8")
    };
    assert_eq!(text("sys/kernel/ostype"), "Linux\n");
    assert_eq!(text("sys/kernel/random/uuid").len(), 37);
    assert_ne!(text("sys/kernel/random/uuid"), text("sys/kernel/random/uuid"));
    assert_eq!(text("sys/kernel/random/boot_id"), text("sys/kernel/random/boot_id"));
    assert!(find("sys/nothing").is_err() && find("sys/kernel/nothing").is_err() && find("007").is_err());
    let user = Cred::new(1000, 1000, Vec::new());
    assert_eq!(find("sys/kernel/ostype").expect("there").write(&ctx(&cred), b"x"), Err(Errno::EPERM));
    assert_eq!(find("sys/kernel/hostname").expect("there").write(&ctx(&user), b"x"), Err(Errno::EPERM));
}

#[test]
fn inode_numbers_differ() {
    let mut seen = std::collections::HashSet::new();
    for dir in ["sys", "sys/kernel", "sys/fs", "sys/vm"] {
        for (_, node) in find(dir).expect("there").children(&kernel().roots().pid).expect("a directory") {
            assert!(seen.insert(node.ino()), "{node:?}");
        }
    }
    for (_, node) in
        Node::Process(1).fixed().into_iter().chain(Node::Process(2).fixed()).chain(Node::Thread(1, 3).fixed())
    {
        assert!(seen.insert(node.ino()), "{node:?}");
    }
}
