//! The README's table of promises: every test it names is there.

use std::path::Path;

#[test]
fn every_promise_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let table = readme
        .lines()
        .skip_while(|line| !line.starts_with("| promise"))
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let mut promises = 0;
    for line in table {
        promises += 1;
        let column = line.split('|').nth(2).unwrap();
        let named: Vec<&str> = column.split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "no test for {line}");
        for name in named {
            assert!(root.join(name).exists(), "{name} is not there: {line}");
        }
    }
    assert!(promises >= 10, "{promises}");
}
