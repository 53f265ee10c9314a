//! The private Postgres: made, joined, stopped, and gone with its owner.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use ledger::{
    AccountId, HoldRequest, Ledger, TokenId,
    admin::Admin,
    cluster::{Cluster, Options},
    migrate,
};
use tempfile::TempDir;

use crate::support::{charge, digest, take};

/// A directory other users may pass through.
fn dir() -> TempDir {
    let dir = TempDir::new().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

fn options(dir: &Path) -> Options {
    Options {
        dir: dir.join("turnpike"),
        throwaway: true,
        ..Options::default()
    }
}

fn am_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_made_joined_stopped_and_started_again() {
    let dir = dir();
    let options = options(dir.path());
    let cluster = Cluster::start(&options).unwrap();
    assert!(cluster.is_ours());
    cluster.create_database("turnpike").await.unwrap();
    cluster.create_database("turnpike").await.unwrap();
    migrate::run(&cluster.config("turnpike")).await.unwrap();
    // By URL too.
    let admin = Admin::connect(&ledger::Config::from_url(&cluster.url("turnpike")).unwrap())
        .await
        .unwrap();
    admin.create_account("alice", None).await.unwrap();
    drop(admin);

    let joined = Cluster::start(&options).unwrap();
    assert!(!joined.is_ours());
    joined.stop().unwrap();
    // Who serves does not join: its database would end with another.
    let alone = Options {
        alone: Some(Duration::ZERO),
        ..options.clone()
    };
    let error = Cluster::start(&alone).unwrap_err().to_string();
    assert!(
        error.contains("another turnpike serves") && error.contains("DATABASE_URL"),
        "{error}"
    );
    cluster.stop().unwrap();
    drop(Cluster::start(&alone).unwrap());
    assert!(!options.dir.join("postgres/postmaster.pid").exists());

    let begun = Instant::now();
    let cluster = Cluster::start(&options).unwrap();
    println!("started again in {:?}", begun.elapsed());
    let admin = Admin::connect(&cluster.config("turnpike")).await.unwrap();
    assert_eq!(admin.accounts().await.unwrap()[0].name, "alice");
    drop(admin);
    // Dropped without stop: stopped all the same.
    drop(cluster);
    assert!(!options.dir.join("postgres/postmaster.pid").exists());
}

/// Who serves has the gateway's rights and no more, and they are enough for all of its work.
#[tokio::test(flavor = "multi_thread")]
async fn serving_needs_no_more_than_the_gateway_s_rights() {
    let dir = dir();
    let cluster = Cluster::start(&options(dir.path())).unwrap();
    cluster.create_database("turnpike").await.unwrap();
    assert!(
        cluster.gateway_config("turnpike").await.is_err(),
        "there is no role to be a member of before the migrations"
    );
    let owner = cluster.config("turnpike");
    migrate::run(&owner).await.unwrap();
    let at_once = (0..4).map(|_| cluster.gateway_config("turnpike"));
    for config in futures_util::future::join_all(at_once).await {
        config.unwrap();
    }
    let serving = cluster.gateway_config("turnpike").await.unwrap();
    assert!(migrate::pending(&serving).await.unwrap().is_empty());

    let sql = async |url: &str| {
        let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        client
    };
    let url = cluster.url("turnpike");
    let as_owner = sql(&url).await;
    as_owner
        .batch_execute(
            "select turnpike.create_account('alice'), turnpike.top_up('alice', 1);
             do $$ declare last text := (select max(relname) from pg_class where relname ~ '^charge_[0-9]{4}_[0-9]{2}$');
             begin execute format('drop table turnpike.%I', last); end $$;",
        )
        .await
        .unwrap();
    let months = "select count(*) from pg_class where relname ~ '^charge_[0-9]{4}_[0-9]{2}$'";
    let count = async |statement: &str| {
        let row = as_owner.query_one(statement, &[]).await.unwrap();
        row.get::<_, i64>(0)
    };
    assert_eq!(count(months).await, 2);

    // Partitions, tokens, prices, holds, settlements, notices.
    let ledger = Ledger::connect(serving).await.unwrap();
    assert_eq!(count(months).await, 3);
    let row = as_owner
        .query_one(
            "select token, token_id, (select id from turnpike.account) from turnpike.issue_token('alice')",
            &[],
        )
        .await
        .unwrap();
    let (secret, token, account) = (
        row.get::<_, String>(0),
        TokenId(row.get(1)),
        AccountId(row.get(2)),
    );
    let price = count("select turnpike.set_price('gpt-4o', input => 1)").await;
    while ledger.catalog().prices().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    while !ledger.stats().listening {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let want = || HoldRequest {
        exchange: uuid::Uuid::now_v7(),
        token,
        account,
        means: crate::support::money(100),
        evidence: crate::support::evidence(tariff::PriceId(1)),
    };
    let found = ledger.access_token(digest(&secret)).await.unwrap().unwrap();
    assert_eq!(found.id, token);
    let hold = take(&ledger, want()).await;
    hold.settle(charge(tariff::PriceId(price), 60))
        .await
        .unwrap();
    take(&ledger, want()).await.release().await.unwrap();
    as_owner
        .execute("select turnpike.revoke_token($1)", &[&secret])
        .await
        .unwrap();
    while !ledger
        .access_token(digest(&secret))
        .await
        .unwrap()
        .unwrap()
        .revoked
    {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(
        count("select count(*) from pg_stat_activity where application_name = 'turnpike' and usename <> 'turnpike' and state is not null").await,
        0
    );
    assert_eq!(ledger.drain(Duration::from_secs(10)).await, 0);
    assert_eq!(
        count("select count(*) from turnpike.instance where stopped_at is not null").await,
        1
    );
    assert_eq!(count("select count(*) from turnpike.audit").await, 0);

    let as_gateway = sql(&url.replace("postgres@", "turnpike@")).await;
    for statement in [
        "select * from turnpike.credit",
        "update turnpike.charge set amount = 0",
        "delete from turnpike.charge",
        "update turnpike.access_token set budget = null",
        "update turnpike.price set valid_to = now()",
        "insert into turnpike.upstream (name, base_url) values ('x', 'http://x')",
        "select turnpike.top_up('alice', 1)",
        "drop table turnpike.hold",
        "create table turnpike.x ()",
        "create role x",
        "set role postgres",
        "copy turnpike.price to program 'cat'",
    ] {
        let error = as_gateway
            .batch_execute(statement)
            .await
            .expect_err(statement);
        assert_eq!(
            error.code().map(|code| code.code()),
            Some("42501"),
            "{statement}: {error}"
        );
    }
    drop((as_gateway, as_owner, ledger));
    cluster.stop().unwrap();
}

#[test]
fn nobody_else_can_reach_it() {
    let dir = dir();
    let options = options(dir.path());
    let cluster = Cluster::start(&options).unwrap();
    for inside in ["postgres", "socket"] {
        let found = fs::metadata(options.dir.join(inside)).unwrap();
        assert_eq!(found.mode() & 0o777, 0o700, "{inside}");
        assert!(
            found.uid() != 0,
            "{inside} belongs to the server's own user"
        );
    }
    let log = cluster.log_file();
    assert_eq!(fs::metadata(log).unwrap().mode() & 0o077, 0);
}

#[test]
fn a_long_path_gets_a_short_socket() {
    let dir = dir();
    let options = options(&dir.path().join("d".repeat(100)));
    fs::create_dir(options.dir.parent().unwrap()).unwrap();
    let cluster = Cluster::start(&options).unwrap();
    assert!(!cluster.url("x").contains("ddddd"), "{}", cluster.url("x"));
    let socket = cluster
        .url("x")
        .replace("postgres://postgres@", "")
        .replace("%2F", "/")
        .replace("/x", "");
    assert!(Path::new(&socket).exists());
    cluster.stop().unwrap();
    assert!(!Path::new(&socket).exists());
}

#[test]
fn what_cannot_work_is_said_in_a_sentence() {
    let dir = dir();
    let error = Cluster::start(&Options {
        binaries: Some("/nowhere".into()),
        ..options(dir.path())
    })
    .unwrap_err();
    assert!(error.is_cluster());
    assert_eq!(
        error.to_string(),
        "/nowhere does not have both initdb and postgres"
    );

    fs::write(dir.path().join("file"), "").unwrap();
    let error = Cluster::start(&options(&dir.path().join("file"))).unwrap_err();
    assert!(error.to_string().starts_with("cannot make"), "{error}");

    if am_root() {
        let closed = dir.path().join("closed");
        fs::create_dir(&closed).unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
        let error = Cluster::start(&options(&closed)).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("closed is closed to it; choose another directory"),
            "{error}"
        );
    }
}

#[test]
fn an_unfinished_initdb_is_done_over() {
    let dir = dir();
    let options = options(dir.path());
    fs::create_dir_all(options.dir.join("postgres.new")).unwrap();
    fs::write(options.dir.join("postgres.new/half"), "").unwrap();
    Cluster::start(&options).unwrap().stop().unwrap();
    assert!(!options.dir.join("postgres.new").exists());
}

#[test]
fn data_of_another_version_is_left_alone() {
    let dir = dir();
    let options = options(dir.path());
    fs::create_dir_all(options.dir.join("postgres")).unwrap();
    fs::write(options.dir.join("postgres/PG_VERSION"), "9\n").unwrap();
    let error = Cluster::start(&options).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("made by PostgreSQL 9, which is not installed"),
        "{error}"
    );
}

/// This test's own program, run again to be the owner (or the second user) of a cluster; see [`role`].
fn other(dir: &Path, uid: Option<u32>) -> Child {
    let program = std::env::current_exe().unwrap();
    // Copied where another user can run it.
    let copy = dir.join("program");
    if !copy.exists() {
        fs::copy(&program, &copy).unwrap();
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut command = Command::new(&copy);
    command
        .args(["--exact", "clusters::role", "--nocapture"])
        .env("CLUSTER_DIR", dir)
        .current_dir("/")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if let Some(uid) = uid {
        command.uid(uid).gid(uid);
    }
    command.spawn().unwrap()
}

/// Not a test of its own: what the other process does. It runs a cluster until it is killed.
#[test]
fn role() {
    let Some(dir) = std::env::var_os("CLUSTER_DIR").map(PathBuf::from) else {
        return;
    };
    let cluster = Cluster::start(&options(&dir)).unwrap();
    fs::write(
        dir.join(if cluster.is_ours() { "owner" } else { "guest" }),
        "",
    )
    .unwrap();
    std::thread::park();
}

fn wait_for(what: &str, holds: impl Fn() -> bool) -> Duration {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
    begun.elapsed()
}

fn is_alive(pid: &str) -> bool {
    // A zombie waits for a parent that is gone; it is not alive.
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .trim_start()
            .starts_with('Z')
    })
}

#[test]
fn it_dies_with_a_killed_owner_and_the_next_one_starts_it_again() {
    let dir = dir();
    let mut owner = other(dir.path(), None);
    wait_for("the owner's cluster", || dir.path().join("owner").exists());
    let pid_file = options(dir.path()).dir.join("postgres/postmaster.pid");
    let pid = fs::read_to_string(&pid_file)
        .unwrap()
        .lines()
        .next()
        .unwrap()
        .to_owned();
    assert!(is_alive(&pid));
    // Another user of the directory joins, from this process.
    let guest = Cluster::start(&options(dir.path())).unwrap();
    assert!(!guest.is_ours());

    owner.kill().unwrap();
    owner.wait().unwrap();
    // At once, while the old one may still be shutting down.
    let cluster = Cluster::start(&options(dir.path())).unwrap();
    assert!(cluster.is_ours());
    assert!(!is_alive(&pid));
    println!("the server died with its owner");
}

#[test]
fn it_runs_for_a_user_that_is_not_root() {
    if !am_root() {
        // Every other test of this module has shown it then.
        return;
    }
    let dir = dir();
    // nobody: initdb wants a name in the passwd file.
    const SOMEBODY: u32 = 65_534;
    std::os::unix::fs::chown(dir.path(), Some(SOMEBODY), Some(SOMEBODY)).unwrap();
    let mut owner = other(dir.path(), Some(SOMEBODY));
    wait_for("the user's cluster", || dir.path().join("owner").exists());
    assert_eq!(
        fs::metadata(options(dir.path()).dir.join("postgres"))
            .unwrap()
            .uid(),
        SOMEBODY
    );
    owner.kill().unwrap();
    owner.wait().unwrap();
    let pid_file = options(dir.path()).dir.join("postgres/postmaster.pid");
    println!(
        "gone after {:?}",
        wait_for("the server dies with its owner", || !pid_file.exists())
    );
}
