//! Boots a sandbox, puts a file into it, runs programs on it, and reads what they left.

fn main() -> drupe::Result {
    let sandbox = drupe::Sandbox::builder().hostname("example").start()?;
    sandbox.write_file("/tmp/drupe-words", "pear\napple\nplum\n")?;

    let script = "sort /tmp/drupe-words | tee /tmp/drupe-sorted; exit 3";
    let sorted = sandbox.command("/bin/sh").args(["-c", script]).output()?;
    print!("{}", String::from_utf8_lossy(&sorted.stdout));
    println!("status {}", sorted.status.code().unwrap_or(-1));

    let left = sandbox.read_file("/tmp/drupe-sorted")?;
    let on_host = std::fs::read("/tmp/drupe-sorted").map_or(0, |bytes| bytes.len());
    println!("{} bytes in the sandbox, {on_host} on the host", left.len());

    let mut sleeper = sandbox.command("sleep").arg("60").spawn()?;
    sandbox.pause()?;
    sandbox.unpause()?;
    sleeper.kill()?;
    println!("the sleeper: {}", sleeper.wait()?);
    Ok(())
}
