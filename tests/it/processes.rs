//! Three real processes under faults for a moment: killed, stopped, all killed, with a clock a day off and a disk that
//! refuses to flush, and where the system permits it cut off one way, slowed down and with a full disk. What a producer and
//! a reader saw has to be possible.

use std::process::Command;

/// Every kind of fault once, and a few more.
const SECONDS: &str = "25";

#[test]
fn three_processes_keep_their_promises_under_faults() {
    let program = env!("CARGO_BIN_EXE_reckoner-tests");
    let arguments = ["soak", "--processes", "--seconds", SECONDS, "--from", "1", "--binary", program];
    let output = Command::new(program).args(arguments).output().expect("the harness starts");
    let words = String::from_utf8_lossy(&output.stdout);
    println!("{words}");
    assert!(output.status.success(), "{words}{}", String::from_utf8_lossy(&output.stderr));
}
