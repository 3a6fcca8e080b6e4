//! Real programs do real work, and agree with what they do natively.

use crate::common::{agrees, as_user, guest_dir, has, run, sandboxed};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

fn shell(needs: &[&str], script: &str) {
    if needs.iter().all(|p| has(p)) {
        agrees(&["/bin/sh", "-c", script], LIMIT);
    }
}

#[test]
fn busybox_shell() {
    if has("busybox") {
        let script = "cd /etc; for i in 1 2 3; do echo $i; done | sort -r; echo pass*; cat <<X\nhere $((6*7))\nX\n\
                      (sleep 0.1; echo background) & wait; echo $(echo sub | tr a-z A-Z); false || echo or";
        agrees(&["busybox", "sh", "-c", script], LIMIT);
    }
}

#[test]
fn bash_script() {
    if !has("bash") {
        return;
    }
    let mut script = String::from(
        "set -u\ntrap 'echo leaving $?' EXIT\ndeclare -A map=([one]=1 [two]=2 [three]=3)\narr=(a b c)\n\
         for k in $(printf '%s\\n' \"${!map[@]}\" | sort); do echo \"$k=${map[$k]}\"; done\n\
         arr+=(d); echo \"${#arr[@]} ${arr[-1]} ${arr[@]:1:2}\"\n\
         diff <(seq 1 5) <(seq 1 6)\n(exit 4); echo \"sub $?\"\n\
         trap 'echo got USR1' USR1; kill -USR1 $$\ncoproc CAT { cat; }; echo through >&${CAT[1]}; read -r l <&${CAT[0]}; echo $l\n\
         exec {CAT[1]}>&-; wait\nread -r first rest <<< 'one two three'; echo $rest\n\
         while read -r a b; do echo $((a*b)); done < <(printf '2 3\\n4 5\\n')\nprintf -v padded '%05d' 42; echo $padded\n",
    );
    for i in 0..180 {
        script.push_str(&format!("x{i}=$(( {i} * 3 )); [[ $x{i} -eq {} ]] || echo wrong {i}\n", i * 3));
    }
    script.push_str("f() { local n=$1; (( n <= 1 )) && { echo 1; return; }; echo $(( n * $(f $((n-1))) )); }; f 6\n");
    let path = guest_dir().join("script.bash");
    fs::write(&path, script).expect("writable");
    agrees(&["bash", path.to_str().expect("ASCII")], LIMIT);
}

#[test]
fn pipelines_over_the_host_tree() {
    shell(&["find", "sort", "sha256sum"], "find /usr/share/doc 2>/dev/null | sort | sha256sum");
    shell(&["tar", "gzip"], "tar c /usr/share/doc 2>/dev/null | gzip | gunzip | tar t | wc -l");
}

#[test]
fn text_tools() {
    shell(
        &["perl"],
        "perl -e 'my %h; $h{$_ % 7}++ for 1..1000; print join(\",\", map { \"$_=$h{$_}\" } sort keys %h), \"\\n\"; print `echo child`'",
    );
    shell(&["awk"], "seq 1000 | awk '{s+=$1} END {print s}'");
    shell(&["sed"], "printf 'a b\\nc d\\n' | sed -e 's/\\(.\\) \\(.\\)/\\2 \\1/' -e '$p'");
}

fn python(name: &str, script: &str) {
    if has("python3") {
        let path = guest_dir().join(format!("{name}.py"));
        fs::write(&path, script).expect("writable");
        agrees(&["python3", path.to_str().expect("ASCII")], LIMIT);
    }
}

#[test]
fn python_basics() {
    python(
        "basics",
        "import json, re, tempfile, mmap, os\n\
         print(json.dumps({'a': [1, 2.5, None]}), re.findall(r'\\d+', 'a1b22'))\n\
         with tempfile.TemporaryDirectory() as d:\n    p = os.path.join(d, 'f')\n    open(p, 'wb').write(b'x' * 10000)\n\
         \x20   with open(p, 'r+b') as f:\n        m = mmap.mmap(f.fileno(), 0)\n        m[5000:5005] = b'hello'\n        m.close()\n\
         \x20   print(open(p, 'rb').read()[4998:5007], os.listdir(d))\n",
    );
}

#[test]
fn python_threads() {
    python(
        "threads",
        "import threading\nlock = threading.Lock(); n = 0\n\
         def f():\n    global n\n    for _ in range(2000):\n        with lock:\n            n += 1\n\
         ts = [threading.Thread(target=f) for _ in range(8)]\n[t.start() for t in ts]; [t.join() for t in ts]\nprint(n)\n",
    );
}

#[test]
fn python_processes() {
    python(
        "processes",
        "import subprocess, multiprocessing as mp\n\
         def sq(x): return x * x\n\
         if __name__ == '__main__':\n\
         \x20   print(subprocess.run(['tr', 'a-z', 'A-Z'], input=b'pipe', capture_output=True).stdout)\n\
         \x20   print(subprocess.run(['sh', '-c', 'exit 9']).returncode)\n\
         \x20   for way in ('fork', 'spawn'):\n\
         \x20       with mp.get_context(way).Pool(3) as p:\n            print(way, p.map(sq, range(10)))\n",
    );
}

#[test]
fn python_asyncio() {
    python(
        "aio",
        "import asyncio\n\
         async def main():\n    a = await asyncio.gather(*[asyncio.sleep(0.01 * i, i) for i in range(5)])\n    print(a)\n\
         \x20   p = await asyncio.create_subprocess_exec('echo', 'sub', stdout=asyncio.subprocess.PIPE)\n\
         \x20   print((await p.communicate())[0], p.returncode)\n\
         asyncio.run(main())\n",
    );
}

#[test]
fn sqlite_writes_and_reads() {
    shell(
        &["sqlite3"],
        "d=$(mktemp -d); cd $d; sqlite3 t.db 'create table t(a integer primary key, b text); \
         with recursive c(x) as (select 1 union all select x+1 from c where x<20000) insert into t select x, hex(x) from c;' && \
         sqlite3 t.db 'select count(*), sum(a), max(b) from t; pragma integrity_check;'; rm -r $d",
    );
}

#[test]
fn gcc_compiles_links_and_runs() {
    shell(
        &["gcc"],
        "d=$(mktemp -d); cd $d; printf '#include <pthread.h>\\n#include <stdio.h>\\nstatic void *f(void *a) { return a; }\\n\
         int main(void) { pthread_t t; void *r; pthread_create(&t, 0, f, (void *)5); pthread_join(t, &r); printf(\"%%ld\\\\n\", (long)r); }\\n' > a.c && \
         gcc -O2 -pthread -o a a.c && ./a; rm -r $d",
    );
}

#[test]
fn git_keeps_a_history() {
    shell(
        &["git"],
        "export GIT_AUTHOR_DATE=2020-01-01T00:00:00Z GIT_COMMITTER_DATE=2020-01-01T00:00:00Z HOME=/nonexistent \
         GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b; d=$(mktemp -d); cd $d; \
         git init -q -b main . && echo one > f && git add f && git commit -qm first && echo two >> f && git commit -qam second && \
         git log --format='%H %s' && git fsck 2>&1 && git status --short; cd /; rm -rf $d",
    );
}

#[test]
fn static_go_program() {
    if !has("go") {
        return;
    }
    let dir = guest_dir().join("go");
    fs::create_dir_all(&dir).expect("ours");
    let source = "package main\nimport (\"fmt\"; \"os\"; \"os/signal\"; \"sync\"; \"syscall\")\n\
        func main() {\n\tc := make(chan os.Signal, 1)\n\tsignal.Notify(c, syscall.SIGUSR1)\n\tsyscall.Kill(os.Getpid(), syscall.SIGUSR1)\n\
        \tfmt.Println(<-c)\n\tvar wg sync.WaitGroup\n\tout := make([]int, 100)\n\tfor i := range out { wg.Add(1); go func(i int) { defer wg.Done(); out[i] = i * i }(i) }\n\
        \twg.Wait()\n\tsum := 0\n\tfor _, v := range out { sum += v }\n\tfmt.Println(sum)\n}\n";
    fs::write(dir.join("main.go"), source).expect("ours");
    let exe = dir.join("main");
    let mut build = std::process::Command::new("go");
    build.current_dir(&dir).args(["build", "-o"]).arg(&exe).arg("main.go");
    build
        .env("CGO_ENABLED", "0")
        .env("GOFLAGS", "-mod=mod")
        .env("GO111MODULE", "off")
        .env("GOCACHE", dir.join("cache"));
    let built = crate::common::build(&mut build, Duration::from_secs(240));
    assert_eq!(built.status, 0, "{}", built.stderr);
    agrees(&[exe.to_str().expect("ASCII")], LIMIT);
}

#[test]
fn two_hundred_short_programs() {
    for i in 0..200 {
        let out = run(&mut sandboxed(&[], &["/bin/true"]), Duration::from_secs(10));
        assert_eq!((out.status, out.stderr.as_str()), (0, ""), "run {i}");
    }
}

/// A program with a race and one without, under every sanitizer that both compilers have. What they find depends on
/// how threads run, so they are told to say nothing of it. With an argument the program leaks, which is found by tracing.
#[test]
fn sanitizers() {
    let dir = guest_dir().join("sanitizers");
    fs::create_dir_all(&dir).expect("writable");
    let source = dir.join("racy.c");
    let text = "#include <pthread.h>\n#include <stdio.h>\n#include <stdlib.h>\nstatic int x;\n\
        static void leak(void) { for (int i = 0; i < 64; i++) { char *volatile p = malloc(99); p[0] = i; p = 0; } }\n\
        static void *add(void *p) { for (int i = 0; i < 1000; i++) x++; return p; }\n\
        int main(int n, char **) { pthread_t t[2]; char *p = malloc(1 << 20); snprintf(p, 99, \"grown %d\", 7); puts(p); free(p);\n\
        for (int i = 0; i < 2; i++) pthread_create(t + i, 0, add, 0); for (int i = 0; i < 2; i++) pthread_join(t[i], 0);\n\
        puts(\"joined\"); if (n > 1) leak(); return 0; }\n";
    fs::write(&source, text).expect("writable");
    for compiler in ["gcc", "clang"].into_iter().filter(|c| has(c)) {
        for sanitizer in ["address", "leak", "undefined", "thread", "memory"] {
            let program = dir.join(format!("{compiler}-{sanitizer}"));
            let mut build = std::process::Command::new(compiler);
            build.args(["-g", "-O1", "-pthread"]).arg(format!("-fsanitize={sanitizer}")).arg("-o");
            // Not every compiler has each of them.
            if crate::common::build(build.arg(&program).arg(&source), LIMIT).status == 0 {
                let run = format!("TSAN_OPTIONS=report_bugs=0 {} 2>&1", program.display());
                shell(&[], &run);
                // What is found is told with addresses.
                shell(&[], &format!("{run} leaky | grep -c -E 'joined|detected memory leaks|byte.s. leaked'"));
            }
        }
    }
}

/// Who translates code reads what the file has, not what was rewritten for speed.
#[test]
fn valgrind() {
    if !has("valgrind") || !has("gcc") {
        return;
    }
    let dir = guest_dir().join("valgrind");
    fs::create_dir_all(&dir).expect("writable");
    let source = dir.join("bad.c");
    let text = "#include <stdio.h>\n#include <stdlib.h>\n#include <unistd.h>\nint main(void) { int *p = malloc(40);\n\
        for (int i = 0; i < 300; i++) getppid(); printf(\"%d\\n\", p[3] > 5); fflush(stdout); free(p); return p[1] & 0; }\n";
    fs::write(&source, text).expect("writable");
    let program = dir.join("bad");
    let built = crate::common::build(
        std::process::Command::new("gcc").args(["-g", "-O0", "-o"]).arg(&program).arg(&source),
        LIMIT,
    );
    assert_eq!(built.status, 0, "{}", built.stderr);
    // Once to have copies of the code made.
    let path = program.to_str().expect("UTF-8");
    run(&mut sandboxed(&[], &["/bin/sh", "-c", &format!("{path}; {path}")]), LIMIT);
    shell(&["sed"], "valgrind /bin/true 2>&1 | sed -n 's/^==[0-9]*== *\\(ERROR SUMMARY.*\\)/\\1/p'");
    let script =
        format!("valgrind {path} 2>&1 | sed -n 's/^==[0-9]*== *\\(ERROR SUMMARY\\|Invalid\\|Conditional\\)/\\1/p'");
    shell(&["sed"], &script);
}

/// Without what differs from run to run: addresses, ids, times.
const PLAIN: &str = "sed -E 's/0x[0-9a-f]+/ADDR/g; s/(LWP|process) [0-9]+/ID/g'";

#[test]
fn debuggers() {
    let program = "cat > d.c <<X\n#include <pthread.h>\nint counter;\nvoid *work(void *p) { counter++; return p; }\n\
                   int add(int a, int b) { int c = a + b; counter = c; return c; }\n\
                   int main(void) { pthread_t t; pthread_create(&t, 0, work, 0); pthread_join(t, 0); return add(1, 2); }\nX\n\
                   gcc -g -O0 -o d d.c -lpthread\n";
    let prepare = format!("cd $(mktemp -d)\n{program}");
    let commands = "-ex 'break add' -ex run -ex bt -ex next -ex 'watch counter' -ex continue -ex 'print counter' -ex finish \
                    -ex 'info threads' -ex continue";
    shell(
        &["gdb", "gcc"],
        &format!(
            "{prepare}gdb -nx -batch {commands} ./d 2>&1 | grep -E 'Breakpoint|^#|watch|Value|Old|New val|exited' | {PLAIN}"
        ),
    );
    shell(
        &["strace"],
        "strace -f -o /tmp/drupe-strace.$$ -e trace=execve,exit_group sh -c 'true | true; /bin/false'; echo $?; \
                        grep -c exited /tmp/drupe-strace.$$; rm /tmp/drupe-strace.$$",
    );
    let leak = "cat > l.c <<X\n#include <stdlib.h>\nint main(int n, char **a) { void *p = malloc(7); if (n < 2) free(p); p = 0; return 0; }\nX\n\
                gcc -g -fsanitize=address -o l l.c; ./l; echo $?; ./l leak 2>/dev/null; echo $?";
    shell(&["gcc"], &format!("cd $(mktemp -d)\n{leak}"));
}

#[test]
fn python_venv() {
    shell(
        &["/usr/bin/python3"],
        "d=$(mktemp -d); /usr/bin/python3 -m venv --without-pip $d/v && . $d/v/bin/activate && \
         python -c 'import sys; print(sys.prefix != sys.base_prefix, sys.version)'; ls $d/v/bin | wc -l; rm -r $d",
    );
}

/// It changes what lies below `/usr` and `/var`, so there is nothing to compare with.
#[test]
fn dpkg_installs_and_removes_a_local_package() {
    if !["dpkg", "dpkg-deb"].iter().all(|p| has(p)) {
        return;
    }
    let script = "d=$(mktemp -d); mkdir -p $d/p/DEBIAN $d/p/usr/share/drupe-test
        printf 'Package: drupe-test\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b>\nDescription: x\n' > $d/p/DEBIAN/control
        echo hello > $d/p/usr/share/drupe-test/f; printf '#!/bin/sh\necho postinst $1\n' > $d/p/DEBIAN/postinst
        chmod 755 $d/p/DEBIAN/postinst; export PATH=/usr/sbin:/sbin:$PATH
        dpkg-deb --build --root-owner-group $d/p $d/p.deb >$d/log 2>&1 && dpkg -i $d/p.deb >>$d/log 2>&1 || cat $d/log
        grep postinst $d/log; cat /usr/share/drupe-test/f; dpkg -s drupe-test | grep Status
        dpkg -r drupe-test >>$d/log 2>&1; echo $?; ls /usr/share/drupe-test 2>&1 | grep -c 'No such file'";
    let out = run(&mut sandboxed(&["--user", "0:0"], &["/bin/sh", "-c", script]), LIMIT);
    let expected = "postinst configure\nhello\nStatus: install ok installed\n0\n1\n";
    assert_eq!((out.status, out.stdout.as_str()), (0, expected), "{}", out.stderr);
    assert!(!std::path::Path::new("/usr/share/drupe-test").exists());
}

/// Settings of the kernel can be written by root, keep to their ranges and have their effect.
#[test]
fn settings_have_their_effect() {
    if as_user() {
        return;
    }
    let script = r#"cd /proc/sys || exit 1
        try() { sh -c 'echo "$1" > "$2"' sh "$1" "$2" 2>/dev/null; echo "$2 $1: $? $(cat "$2")"; }
        for value in 1 5000 0 x -3 0x2000; do try "$value" fs/pipe-max-size; done
        try 1 kernel/ostype; try 12 kernel/threads-max; try 100 kernel/threads-max; try 7 kernel/sched_rr_timeslice_ms
        try other kernel/domainname; try 2 fs/protected_symlinks; try 5000 net/core/rmem_max; try 1 net/core/rmem_max
        try 100 fs/nr_open; sh -c 'ulimit -Hn 200' 2>/dev/null; echo "past nr_open: $?"
        mkdir -m 1777 /tmp/sticky; cd /tmp/sticky; echo data > /tmp/target; chmod 644 /tmp/target
        nobody="setpriv --reuid 65534 --regid 65534 --clear-groups"
        $nobody ln -s /tmp/target link; $nobody touch file; chmod 666 file
        cat link; echo 1 > /proc/sys/fs/protected_symlinks; cat link 2>&1; echo "link $?"; $nobody cat link
        echo x >> file; echo "file $?"; echo 1 > /proc/sys/fs/protected_regular; sh -c 'echo x >> file' 2>/dev/null; echo "file $?"
        $nobody sh -c 'echo x >> file'; echo "own file $?"
        sh -c 'echo 3 > /proc/sys/fs/protected_regular' 2>/dev/null; $nobody sh -c 'echo 0 > /proc/sys/fs/protected_regular' 2>/dev/null
        cat /proc/sys/fs/protected_regular"#;
    let wanted = "fs/pipe-max-size 1: 0 4096\nfs/pipe-max-size 5000: 0 8192\nfs/pipe-max-size 0: 1 8192\nfs/pipe-max-size x: 1 8192\n\
        fs/pipe-max-size -3: 1 8192\nfs/pipe-max-size 0x2000: 0 8192\nkernel/ostype 1: 2 Linux\nkernel/threads-max 12: 1 4096\n\
        kernel/threads-max 100: 0 100\nkernel/sched_rr_timeslice_ms 7: 0 7\nkernel/domainname other: 0 other\n\
        fs/protected_symlinks 2: 1 0\nnet/core/rmem_max 5000: 0 5000\nnet/core/rmem_max 1: 1 5000\nfs/nr_open 100: 0 100\n\
        past nr_open: 2\ndata\ncat: link: Permission denied\nlink 1\ndata\nfile 0\nfile 2\nown file 0\n1\n";
    let out = run(&mut sandboxed(&[], &["/bin/sh", "-c", script]), LIMIT);
    assert_eq!(out.stdout, wanted, "{}", out.stderr);
}

/// Root inside says whether programs lie at random addresses.
#[test]
fn addresses_are_as_random_as_root_says() {
    if as_user() {
        return;
    }
    let script = r#"cd /proc/sys/kernel; where() { cut -d- -f1 /proc/self/maps | md5sum; }; same() { test "$(where)" = "$(where)"; echo $?; }
        cat randomize_va_space; same; echo 0 > randomize_va_space; same; cat randomize_va_space; echo 2 > randomize_va_space; same"#;
    let out = run(&mut sandboxed(&[], &["bash", "-c", script]), LIMIT);
    assert_eq!((out.status, out.stdout.as_str()), (0, "2\n1\n0\n0\n1\n"), "{}", out.stderr);
}

/// What is built in a writable bind is the host's, with mode, owner and times as natively.
#[test]
fn a_writable_bind_takes_a_build_and_an_archive() {
    if !["gcc", "make", "tar"].iter().all(|p| has(p)) {
        return;
    }
    let dir = guest_dir().join(format!("bind-{}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir(&dir).expect("writable");
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).expect("its mode");
    let path = dir.to_str().expect("ASCII");
    let script = format!(
        "umask 027; cd {path} && rm -rf * && printf 'int main(void) {{ return 3; }}\\n' > a.c && printf 'a: a.c\\n\\tgcc -o a a.c\\n' > Makefile && \
         make -s && ./a; echo $?; chmod 604 a.c; touch -d 2001-02-03T04:05:06Z a.c; mkdir d; ln a.c d/hard; ln -s hard d/soft; mv Makefile d/
         tar cf t.tar a.c d && mkdir out && tar xpf t.tar -C out && find out -printf '%P %m %u %g %n %l\\n' | sort; stat -c '%n %Y' out/a.c out/d/hard; rm -r d; \
         dd if=/dev/zero of=big bs=1M count=2 2>&1 | head -2; dd if=big of=/dev/null bs=2M 2>&1 | head -2; head -c 3000001 /usr/bin/env /usr/bin/gcc /bin/bash > r; \
         cp r s; cat r > t; dd if=r bs=300000 >> u 2>/dev/null; cksum big r s t u; rm big r s t u; (umask 777; echo secret > n); stat -c '%n %a %s' n; rm -f n"
    );
    let look = [
        "/bin/sh",
        "-c",
        &format!("cd {path}; stat -c '%n %a %u %h %s' a a.c out/a.c out/d/Makefile; stat -c %Y a.c out/a.c; ls"),
    ];
    let mut seen = Vec::new();
    for options in [None, Some("on"), Some("off")] {
        let line = ["/bin/sh", "-c", &script];
        let bind = format!("{path}:rw");
        let mut command = match options {
            None => crate::common::native(&line),
            Some(rewrite) => sandboxed(&["--rewrite", rewrite, "--bind", &bind], &line),
        };
        let inside = run(&mut command, LIMIT);
        let outside = run(&mut crate::common::native(&look), LIMIT);
        seen.push((inside.status, inside.stdout, outside.stdout, inside.stderr));
    }
    let _ = fs::remove_dir_all(&dir);
    assert!(seen[0].2.contains("a.c 604"), "{seen:?}");
    for other in &seen[1..] {
        assert_eq!((other.0, &other.1, &other.2), (seen[0].0, &seen[0].1, &seen[0].2), "{}", other.3);
    }
}

/// Programs that make namespaces, as root and as somebody else. What they print does not depend on pids outside.
#[test]
fn spaces() {
    if as_user() {
        return;
    }
    let nobody = "setpriv --reuid 65534 --regid 65534 --clear-groups";
    shell(
        &["unshare", "setpriv"],
        &format!(
            "cd /; for who in '' '{nobody}'; do \
             $who unshare -Urmpf --mount-proc sh -c 'id -u; echo $$; cat /proc/1/comm; mount -t tmpfs t /mnt && echo mounted'; \
             $who unshare -Uru sh -c 'hostname inner; hostname; sed \"s/  */ /g\" /proc/self/gid_map'; done; \
             unshare -pf sh -c 'echo $$; exec sh -c \"kill -9 \\$\\$; echo alive\"'; \
             unshare --fork --pid --kill-child sh -c 'sleep 100 & exit 3'; echo $?; \
             unshare -T --boottime 864000 sh -c 'cat /proc/self/timens_offsets'; \
             {nobody} chroot / true; echo $?"
        ),
    );
    shell(
        &["unshare", "nsenter", "pgrep"],
        "cd /; unshare -Ur sleep 9 & sleep 0.5; nsenter -t $! -U --preserve-credentials id -u; kill $!; \
         unshare -mpf --mount-proc sleep 9 & sleep 0.5; P=$(pgrep -P $!); \
         nsenter -t $P -m -p sh -c 'readlink /proc/self | grep -c .; cat /proc/1/comm'; kill -9 $P",
    );
    shell(
        &["bwrap", "setpriv"],
        &format!(
            "cd /; for who in '' '{nobody}'; do $who bwrap --unshare-all --dev-bind / / true; echo $?; \
             $who bwrap --unshare-all --ro-bind / / --proc /proc --dev /dev --tmpfs /tmp sh -c \
             'echo $$; cat /proc/1/comm; touch /tmp/x && echo tmp; touch /x 2>/dev/null; echo $?; ls /dev | tr \"\\n\" \" \"'; \
             $who bwrap --unshare-user --unshare-uts --uid 5 --gid 6 --ro-bind / / --hostname some sh -c 'id -u; id -g; hostname'; done"
        ),
    );
    shell(&["fakeroot"], "cd /tmp; fakeroot sh -c 'id -u; touch fr; chown 5:6 fr; stat -c \"%u %g\" fr; rm fr'");
}

/// A server, two that follow it, and one that watches: when the first is killed, one of the others takes its place.
#[test]
fn redis_fails_over() {
    shell(
        &["bash", "redis-server", "redis-cli"],
        r#"exec bash -c '
        cd $(mktemp -d)
        until_is() { for i in $(seq 150); do [ "$("${@:2}" 2>/dev/null | tail -1)" = "$1" ] && break; sleep 0.2; done; }
        for p in 7101 7102 7103; do
            mkdir $p; (cd $p; redis-server --port $p --save "" --daemonize yes --logfile log --pidfile $PWD/pid \
                --repl-diskless-sync-delay 0 $([ $p != 7101 ] && echo --replicaof 127.0.0.1 7101) >/dev/null)
        done
        printf "port 7200\nsentinel monitor m 127.0.0.1 7101 1\nsentinel down-after-milliseconds m 1000\n" >s.conf
        echo "sentinel failover-timeout m 5000" >>s.conf
        redis-server s.conf --sentinel --daemonize yes --logfile slog >/dev/null
        until_is OK redis-cli -p 7101 set k v1
        for p in 7102 7103; do until_is v1 redis-cli -p $p get k; redis-cli -p $p get k; done
        known() { redis-cli -p 7200 sentinel replicas m | grep -c ^slave-priority; }
        until_is 2 known; known
        kill -9 $(cat 7101/pid)
        master() { redis-cli -p 7200 sentinel get-master-addr-by-name m | tail -1; }
        for i in $(seq 150); do m=$(master); [ "$m" != 7101 ] && break; sleep 0.2; done
        o=$((14205-m))
        until_is OK redis-cli -p $m set k v2; until_is v2 redis-cli -p $o get k
        redis-cli -p $o get k; redis-cli -p $m role | head -1; redis-cli -p $o role | head -1
        for p in 7102 7103 7200; do redis-cli -p $p shutdown nosave 2>/dev/null; done
        for p in 7102 7103 7200; do until_is gone bash -c "redis-cli -p $p ping >/dev/null 2>&1 || echo gone"; done
        rm -r $PWD'"#,
    );
}
