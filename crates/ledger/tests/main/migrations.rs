//! Applying the migrations: once, by whoever comes first, and only those that fit.

use ledger::migrate;
use testkit::postgres::TestDb;

#[tokio::test]
async fn a_second_run_applies_nothing() {
    let db = TestDb::empty().await;
    let first = migrate::run(&db.config()).await.unwrap();
    assert_eq!(first.applied.len(), usize::try_from(first.version).unwrap());
    let second = migrate::run(&db.config()).await.unwrap();
    assert_eq!((second.applied.len(), second.version), (0, first.version));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_processes_may_migrate_at_once() {
    let db = TestDb::empty().await;
    let (configs, mut applied) = ([db.config(), db.config(), db.config()], Vec::new());
    for report in futures_util::future::join_all(configs.iter().map(migrate::run)).await {
        applied.extend(report.unwrap().applied);
    }
    applied.sort_unstable();
    let whole = applied.clone();
    applied.dedup();
    assert_eq!(applied, whole, "each file was applied once");
    let client = db.client().await;
    assert_eq!(
        client
            .query_one("select count(*) from turnpike.migration", &[])
            .await
            .unwrap()
            .get::<_, i64>(0),
        i64::try_from(whole.len()).unwrap()
    );
}

#[tokio::test]
async fn an_edited_file_is_noticed() {
    let db = TestDb::new().await;
    db.client()
        .await
        .execute(
            "update turnpike.migration set checksum = '\\x00' where version = 3",
            &[],
        )
        .await
        .unwrap();
    let error = migrate::run(&db.config()).await.unwrap_err();
    assert!(error.is_migration());
    assert!(
        error
            .to_string()
            .contains("0003_create_access_token.sql was edited"),
        "{error}"
    );
}

#[tokio::test]
async fn a_newer_database_that_only_has_more_will_do() {
    let db = TestDb::new().await;
    from_the_future(&db, "9998_add_things.sql").await;
    // A program of its time, or of a little before.
    from_the_future(&db, "9999_drop_things_needs_0001.sql").await;
    let report = migrate::run(&db.config()).await.unwrap();
    assert_eq!((report.applied.len(), report.version), (0, 9999));
    assert!(migrate::pending(&db.config()).await.unwrap().is_empty());
}

async fn from_the_future(db: &TestDb, name: &str) {
    let version: i32 = name[..4].parse().unwrap();
    let statement =
        "insert into turnpike.migration (version, name, checksum) values ($1, $2, '\\x00')";
    let client = db.client().await;
    client.execute(statement, &[&version, &name]).await.unwrap();
}

#[tokio::test]
async fn a_database_that_is_too_new_is_noticed() {
    let db = TestDb::new().await;
    from_the_future(&db, "9999_drop_things_needs_9998.sql").await;
    let error = migrate::run(&db.config()).await.unwrap_err();
    assert!(error.is_migration());
    assert!(
        error.to_string().contains("newer than this program"),
        "{error}"
    );
}

#[tokio::test]
async fn what_is_pending_is_named_and_nothing_is_changed_by_asking() {
    let db = TestDb::empty().await;
    let client = db.client().await;
    let asked = migrate::pending(&db.config()).await.unwrap();
    assert_eq!(asked.first(), Some(&"0001_add_money.sql"));
    let schemas: i64 = client
        .query_one(
            "select count(*) from pg_namespace where nspname = 'turnpike'",
            &[],
        )
        .await
        .unwrap()
        .get(0);
    assert_eq!(schemas, 0);
    assert_eq!(migrate::run(&db.config()).await.unwrap().applied, asked);
    assert!(migrate::pending(&db.config()).await.unwrap().is_empty());

    client
        .batch_execute("delete from turnpike.migration where version > 9")
        .await
        .unwrap();
    let pending = migrate::pending(&db.config()).await.unwrap();
    assert_eq!(pending, asked[9..]);
    assert_eq!(pending[0], "0010_add_notifications.sql");
    client
        .batch_execute("update turnpike.migration set checksum = '\\x00' where version = 3")
        .await
        .unwrap();
    let error = migrate::pending(&db.config()).await.unwrap_err();
    assert!(
        error.is_migration() && error.to_string().contains("was edited"),
        "{error}"
    );
}

/// A role of which only the login is granted, and the gateway's own.
#[tokio::test]
async fn a_role_with_few_rights_may_ask_what_is_pending() {
    let (bare, migrated) = (TestDb::empty().await, TestDb::new().await);
    let user = format!("asking_{}", uuid::Uuid::now_v7().simple());
    let client = migrated.client().await;
    client
        .batch_execute(&format!("create role {user} login"))
        .await
        .unwrap();
    let config = ledger::Config::from_url(&bare.url_as(&user)).unwrap();
    assert!(migrate::pending(&config).await.unwrap().len() > 9);
    client
        .batch_execute(&format!("grant turnpike_gateway to {user}"))
        .await
        .unwrap();
    let config = ledger::Config::from_url(&migrated.url_as(&user)).unwrap();
    assert!(migrate::pending(&config).await.unwrap().is_empty());
    client
        .batch_execute(&format!("drop role {user}"))
        .await
        .unwrap();
}

/// The gateway's own role applies nothing, but may ask whether everything is applied.
#[tokio::test]
async fn a_role_without_rights_finds_a_migrated_database_in_order() {
    let db = TestDb::new().await;
    let user = format!("gateway_{}", uuid::Uuid::now_v7().simple());
    let client = db.client().await;
    client
        .batch_execute(&format!(
            "create role {user} login in role turnpike_gateway"
        ))
        .await
        .unwrap();
    let config = ledger::Config::from_url(&db.url_as(&user)).unwrap();
    assert!(migrate::run(&config).await.unwrap().applied.is_empty());
    client
        .batch_execute(&format!("drop role {user}"))
        .await
        .unwrap();
}

#[tokio::test]
async fn who_may_not_make_roles_migrates_all_the_same() {
    let db = TestDb::empty().await;
    let user = format!("owner_{}", uuid::Uuid::now_v7().simple());
    let client = db.client().await;
    let name: String = client
        .query_one("select current_database()", &[])
        .await
        .unwrap()
        .get(0);
    client
        .batch_execute(&format!(
            "create role {user} login; alter database {name} owner to {user}"
        ))
        .await
        .unwrap();
    let config = ledger::Config::from_url(&db.url_as(&user)).unwrap();
    migrate::run(&config).await.unwrap();
    // And can run the gateway.
    let ledger = ledger::Ledger::connect(config).await.unwrap();
    assert!(ledger.is_ready());
    drop(ledger);
    client.batch_execute(&format!("reassign owned by {user} to current_user; drop owned by {user} cascade; drop role {user}")).await.unwrap();
}
