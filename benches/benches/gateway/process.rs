//! Child processes, and what the system says they use.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::Read as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::Failure;

/// A program that serves. Ended with the value.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    log: PathBuf,
}

impl Server {
    /// Starts a program and waits until it says where it listens: `http://…` behind `label` on a line of its output.
    pub(crate) fn start(
        mut command: Command,
        label: &str,
        dir: &Path,
        name: &str,
    ) -> Result<Self, Failure> {
        let (said, log) = (
            dir.join(format!("{name}.out")),
            dir.join(format!("{name}.log")),
        );
        command
            .stdin(Stdio::null())
            .stdout(File::create(&said)?)
            .stderr(File::create(&log)?);
        let mut child = command
            .spawn()
            .map_err(|error| format!("cannot start {name}: {error}"))?;
        let begun = Instant::now();
        loop {
            let found = fs::read_to_string(&said)?
                .lines()
                .find_map(|line| address(line.trim().strip_prefix(label)?));
            if let Some(address) = found {
                return Ok(Self {
                    child,
                    address,
                    log,
                });
            }
            if child.try_wait()?.is_some() || begun.elapsed() > START_MAX {
                // It may have ended by itself.
                let _ = child.kill();
                child.wait()?;
                let log = fs::read_to_string(&log)?;
                return Err(format!("{name} does not serve:\n{log}").into());
            }
            pause();
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lines it has logged that are warnings or errors, the first of each kind in words.
    pub(crate) fn complaints(&self) -> Result<Vec<String>, Failure> {
        let mut log = Vec::new();
        File::open(&self.log)?.read_to_end(&mut log)?;
        let mut kinds: BTreeMap<String, (u64, String)> = BTreeMap::new();
        for line in String::from_utf8_lossy(&log).lines() {
            let mut words = line.split_whitespace().skip(1);
            let Some(level @ ("WARN" | "ERROR")) = words.next() else {
                continue;
            };
            let place = words.next().unwrap_or_default();
            let kind = kinds
                .entry(format!("{level} {place}"))
                .or_insert_with(|| (0, line.to_owned()));
            kind.0 += 1;
        }
        Ok(kinds
            .into_values()
            .map(|(count, line)| format!("{count} × {line}"))
            .collect())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const START_MAX: Duration = Duration::from_secs(30);

#[expect(
    clippy::disallowed_methods,
    reason = "programs are started before any runtime is"
)]
fn pause() {
    thread::sleep(Duration::from_millis(10));
}

/// `http://127.0.0.1:1234/…` somewhere in a line.
fn address(line: &str) -> Option<SocketAddr> {
    line.split("://").nth(1)?.split('/').next()?.parse().ok()
}

/// CPU time of a process, all its threads and its descendants, in ns.
pub(crate) fn cpu_ns(root: u32) -> u64 {
    tree(root).into_iter().map(one_cpu_ns).sum()
}

/// CPU time of one process by the names of its threads, in ns.
pub(crate) fn cpu_ns_by_thread(pid: u32) -> BTreeMap<String, u64> {
    let mut by_name = BTreeMap::new();
    for task in tasks(pid) {
        let name = fs::read_to_string(task.join("comm")).unwrap_or_default();
        *by_name.entry(name.trim().to_owned()).or_insert(0) += task_cpu_ns(&task);
    }
    by_name
}

fn one_cpu_ns(pid: u32) -> u64 {
    tasks(pid).map(|task| task_cpu_ns(&task)).sum()
}

/// What does not exist any more is empty.
fn tasks(pid: u32) -> impl Iterator<Item = PathBuf> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"));
    tasks
        .into_iter()
        .flatten()
        .flatten()
        .map(|task| task.path())
}

/// The first number of `schedstat` is the time spent on a CPU.
fn task_cpu_ns(task: &Path) -> u64 {
    let stat = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
    let spent = stat.split(' ').next().and_then(|ns| ns.parse().ok());
    spent.unwrap_or(0)
}

/// A process and its descendants.
fn tree(root: u32) -> BTreeSet<u32> {
    let mut parents = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // Behind the name, which may hold anything: the state, then the parent.
        let parent = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
        if let (Some(pid), Some(parent)) = (pid, parent) {
            parents.insert(pid, parent);
        }
    }
    let descends = |mut pid: u32| {
        while let Some(parent) = parents.get(&pid) {
            if *parent == root {
                return true;
            }
            pid = *parent;
        }
        false
    };
    let mut tree: BTreeSet<u32> = parents
        .keys()
        .copied()
        .filter(|pid| descends(*pid))
        .collect();
    tree.insert(root);
    tree
}

/// Memory of one process that is resident, in bytes.
pub(crate) fn rss_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kib = status.lines().find_map(|line| {
        let value = line.strip_prefix("VmRSS:")?;
        value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    });
    kib.unwrap_or(0) * 1024
}

/// How many files this process, and so each it starts, may have open.
pub(crate) fn open_files_max() -> u32 {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let soft = limits.lines().find_map(|line| {
        let values = line.strip_prefix("Max open files")?;
        values.split_whitespace().next()?.parse().ok()
    });
    soft.unwrap_or(u32::MAX)
}
