//! The rules of the schema, asked of the catalog of a migrated database.

use testkit::postgres::TestDb;

#[tokio::test]
async fn smoke() {
    let db = TestDb::new().await;
    let client = db.client().await;
    let row = client.query_one("select count(*) from turnpike.migration", &[]).await.unwrap();
    assert!(row.get::<_, i64>(0) > 5);
}
