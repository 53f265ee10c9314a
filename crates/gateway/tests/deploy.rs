//! What is in deploy/ works as it stands: pages are run, the chart, the container's recipe and the units are checked by the tools made for them.

use std::process::{Command, Output};

use crate::sdk::root;

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Runs every command of a page, in its order.
fn runs(page: &str) {
    let output = Command::new("bash")
        .arg(root().join("tests/deploy/page.sh"))
        .arg(root().join("deploy").join(page))
        .arg(env!("CARGO_BIN_EXE_turnpike"))
        .output()
        .unwrap();
    let said = said(&output);
    assert!(
        output.status.success() && said.contains("the page does what it says"),
        "{said}"
    );
}

#[test]
fn a_dump_and_a_moment_of_before_can_be_restored_as_the_page_says() {
    runs("backup.md");
}

#[test]
fn every_key_can_be_changed_as_the_page_says() {
    runs("keys.md");
}

#[test]
fn a_release_is_taken_in_and_taken_back_as_the_page_says() {
    runs("upgrade.md");
}

#[test]
fn replicas_a_pooler_and_a_replica_for_reports_serve_as_the_page_says() {
    runs("scaling.md");
}

#[test]
fn the_chart_and_the_dockerfile_pass_the_tools_made_for_them() {
    let python = root().join(".sdk/deploy/bin/python");
    assert!(
        python.exists(),
        "run ./test once: it installs what this needs"
    );
    let script = root().join("tests/deploy/check.py");
    let output = Command::new(python).arg(script).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
}

/// The highest exposure that systemd may find, in tenths: 0 is none, 100 all.
const EXPOSURE_MAX: &str = "--threshold=15";

#[test]
fn the_units_are_valid_and_expose_little() {
    let dir = tempfile::tempdir().unwrap();
    let copy = |name: &str, to: &str| {
        let unit = std::fs::read_to_string(root().join("deploy").join(name)).unwrap();
        // Where it is installed there is none here.
        let unit = unit.replace("/usr/local/bin/turnpike", env!("CARGO_BIN_EXE_turnpike"));
        let path = dir.path().join(to);
        std::fs::write(&path, unit).unwrap();
        path
    };
    let service = copy("turnpike.service", "turnpike.service");
    let socket = copy("turnpike.socket", "turnpike.socket");
    copy("turnpike.service", "turnpike@.service");
    let instance = dir.path().join("turnpike@blue.service");
    let verified = Command::new("systemd-analyze")
        .arg("verify")
        .args([&service, &socket, &instance])
        .output()
        .unwrap();
    // It also speaks of units of this machine, and of none of ours if there is nothing to say.
    let about_ours: Vec<String> = said(&verified)
        .lines()
        .filter(|line| line.contains("turnpike"))
        .map(str::to_owned)
        .collect();
    assert!(about_ours.is_empty(), "{about_ours:#?}");
    let judged = Command::new("systemd-analyze")
        .args(["security", "--offline=true", EXPOSURE_MAX])
        .arg(&service)
        .output()
        .unwrap();
    assert!(judged.status.success(), "{}", said(&judged));
}
