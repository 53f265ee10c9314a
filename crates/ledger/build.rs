//! Lists `/migrations/*.sql` for the program to carry.

use std::{env, fs, io, path::Path};

fn main() -> io::Result<()> {
    let root = env::var_os("CARGO_MANIFEST_DIR").ok_or(io::ErrorKind::NotFound)?;
    let out = env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?;
    let dir = fs::canonicalize(Path::new(&root).join("../../migrations"))?;
    println!("cargo::rerun-if-changed={}", dir.display());

    let mut files = Vec::new();
    for entry in fs::read_dir(&dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "sql") {
            files.push(path);
        }
    }
    files.sort();

    let mut list = String::from("&[\n");
    for (index, path) in files.iter().enumerate() {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let version: usize = name
            .split('_')
            .next()
            .and_then(|digits| digits.parse().ok())
            .unwrap_or_default();
        assert_eq!(
            version,
            index + 1,
            "{name}: migrations are numbered from 0001 without gaps"
        );
        list += &format!(
            "    ({version}, {name:?}, include_str!({:?})),\n",
            path.display().to_string()
        );
    }
    list += "]\n";
    fs::write(Path::new(&out).join("migrations.rs"), list)
}
