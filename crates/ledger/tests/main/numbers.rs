//! The numbers of charges: each charge gets one, once, and who has seen a number never finds a smaller one appear.

use std::future::poll_fn;

use futures_util::future::join_all;
use ledger::admin::{Admin, Wanted};
use tokio_postgres::{AsyncMessage, Client, NoTls};
use uuid::Uuid;

use crate::support::{Books, now_ms, take};

async fn numbers(client: &Client, after: i64) -> Vec<(i64, Uuid)> {
    let rows = client
        .query(
            "select charge_seq, id from turnpike.charges_after($1, 7)",
            &[&after],
        )
        .await
        .unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

#[tokio::test]
async fn a_tailer_sees_every_charge_once_while_replicas_settle() {
    let books = Books::with(1_000_000).await;
    let ledgers = [books.ledger().await, books.ledger().await];
    let tail = async {
        let reader = books.db.client().await;
        let (mut seen, mut after) = (Vec::new(), 0);
        while seen.len() < 600 {
            let page = numbers(&reader, after).await;
            assert!(page.is_sorted_by_key(|(seq, _)| *seq), "in order: {page:?}");
            after = page.last().map_or(after, |(seq, _)| *seq);
            if page.is_empty() {
                // Beside the gateways: whoever comes first gives the numbers.
                reader
                    .execute("select turnpike.number_charges(3)", &[])
                    .await
                    .unwrap();
            }
            seen.extend(page.into_iter().map(|(_, id)| id));
        }
        seen
    };
    let settle = join_all((0..600).map(|at| {
        let (ledger, books) = (&ledgers[at % 2], &books);
        async move {
            let hold = take(ledger, books.want(10)).await;
            hold.settle(books.charge(1)).await.unwrap();
        }
    }));
    let (mut seen, _) = tokio::join!(tail, settle);
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 600);
    books
        .until("select count(*) from turnpike.charge_unnumbered", 0)
        .await;
    books.audit_is_empty().await;
}

/// A settlement that began before another and commits after it: its number is greater, not one that was passed already.
#[tokio::test]
async fn a_settlement_that_commits_late_gets_a_later_number() {
    let books = Books::with(1_000).await;
    let ledger = books.ledger().await;
    let late = books.db.client().await;
    take(&ledger, books.want(10))
        .await
        .settle(books.charge(1))
        .await
        .unwrap();
    // What settling does, held open.
    late.batch_execute("begin; insert into turnpike.charge_unnumbered (charge_ids) select array_agg(gen_random_uuid())")
        .await
        .unwrap();
    take(&ledger, books.want(10))
        .await
        .settle(books.charge(1))
        .await
        .unwrap();
    books
        .until("select last_seq from turnpike.charge_sequencer", 2)
        .await;
    late.batch_execute("commit").await.unwrap();
    books
        .until("select last_seq from turnpike.charge_sequencer", 3)
        .await;
}

#[tokio::test]
async fn charges_from_before_there_were_numbers_get_theirs_and_so_do_those_an_older_version_was_settling()
 {
    let books = Books::with(1_000).await;
    let settle = async || {
        let ledger = books.ledger().await;
        take(&ledger, books.want(10))
            .await
            .settle(books.charge(1))
            .await
            .unwrap();
        ledger.drain(std::time::Duration::from_secs(10)).await;
    };
    // As the version before left it: charges, and nothing that says so.
    const FORGET: &str = "delete from turnpike.charge_unnumbered; delete from turnpike.charge_seq;";
    settle().await;
    settle().await;
    books
        .client
        .batch_execute(&format!(
            "{FORGET} update turnpike.charge_sequencer set walk = 2, walked = '00000000-0000-0000-0000-000000000000', made_at = now()"
        ))
        .await
        .unwrap();
    let admin = Admin::connect(&books.db.config()).await.unwrap();
    admin.number_charges().await.unwrap();
    let numbered = "select count(*) from turnpike.numbered_charges";
    assert_eq!(books.number(numbered).await, 2);
    // One of an older exchange, settled by a statement that began before the migration and ended after the walk had passed by.
    books
        .client
        .batch_execute(
            "delete from turnpike.charge_seq where seq = (select min(seq) from turnpike.charge_seq);
             update turnpike.charge_sequencer set made_at = now() - interval '2 minutes'",
        )
        .await
        .unwrap();
    for _ in 0..3 {
        admin.number_charges().await.unwrap();
    }
    assert_eq!(books.number(numbered).await, 2);
    assert_eq!(
        books
            .number("select walk::bigint from turnpike.charge_sequencer")
            .await,
        0
    );
    settle().await;
    admin.number_charges().await.unwrap();
    assert_eq!(books.number(numbered).await, 3);
}

#[tokio::test]
async fn numbers_of_dropped_months_go_and_are_not_given_again() {
    let books = Books::with(1_000).await;
    let ledger = books.ledger().await;
    for _ in 0..3 {
        take(&ledger, books.want(10))
            .await
            .settle(books.charge(1))
            .await
            .unwrap();
    }
    books
        .until("select count(*) from turnpike.numbered_charges", 3)
        .await;
    books
        .client
        .batch_execute(
            "insert into turnpike.charge_seq select -1, turnpike.first_id('2020-01-01Z')",
        )
        .await
        .unwrap();
    let swept = "select turnpike.sweep_charge_seq()::bigint";
    assert_eq!(books.number(swept).await, 1);
    assert_eq!(books.number(swept).await, 0);
    assert_eq!(
        books
            .number("select count(*) from turnpike.charge_seq")
            .await,
        3
    );
}

#[tokio::test]
async fn an_export_goes_on_where_it_stopped_and_keeps_to_its_range() {
    let books = Books::with(10_000).await;
    let ledger = books.ledger().await;
    let (starts, base) = ([1_000, 2_000, 3_000, 4_000], now_ms() - 10_000);
    for start in starts {
        let mut charge = books.charge(start);
        charge.started_at_ms = base + start;
        take(&ledger, books.want(start))
            .await
            .settle(charge)
            .await
            .unwrap();
    }
    let admin = Admin::connect(&books.db.config()).await.unwrap();
    books
        .until("select count(*) from turnpike.numbered_charges", 4)
        .await;
    let export = async |wanted: &Wanted, after| {
        let mut position = admin.export_span(wanted, after).await.unwrap();
        let mut amounts = Vec::new();
        while !position.is_at_end() {
            let page = admin.export_page(wanted, &mut position).await.unwrap();
            amounts.extend(page.into_iter().map(|charge| charge.amount.nano()));
        }
        amounts
    };
    let all = Wanted::default();
    assert_eq!(export(&all, 0).await, starts);
    assert_eq!(export(&all, 2).await, starts[2..]);
    assert_eq!(export(&all, 4).await, [] as [i64; 0]);
    let ranged = Wanted {
        since_ms: Some(base + 1_500),
        until_ms: Some(base + 3_500),
        ..Wanted::default()
    };
    assert_eq!(export(&ranged, 0).await, [2_000, 3_000]);
    let other = Wanted {
        account: Some("bob'; drop table turnpike.charge; --".into()),
        ..Wanted::default()
    };
    assert_eq!(export(&other, 0).await, [] as [i64; 0]);
}

/// The statements of the blocks marked as SQL.
fn documented() -> Vec<String> {
    let blocks = include_str!("../../../../deploy/export.md")
        .split("```sql\n")
        .skip(1);
    let code: String = blocks
        .filter_map(|block| block.split("```").next())
        .collect();
    let statements = code.split(';').map(str::trim);
    statements
        .filter(|statement| !statement.is_empty())
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn what_the_manual_shows_tails_charges_with_a_login_that_may_do_nothing_else() {
    let books = Books::with(1_000).await;
    let user = format!("billing_{}", Uuid::now_v7().simple());
    let (rights, reading): (Vec<_>, Vec<_>) = documented()
        .into_iter()
        .partition(|statement| statement.contains("billing"));
    assert!(
        rights.len() == 4 && reading.len() == 4,
        "{rights:?} {reading:?}"
    );
    for statement in rights {
        let statement = statement.replace("billing", &user);
        books.client.batch_execute(&statement).await.unwrap();
    }
    let url = books.db.url_as(&user);
    let (reader, mut connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    let (heard, mut notices) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
            if let AsyncMessage::Notification(notice) = message {
                let _ = heard.send((notice.channel().to_owned(), notice.payload().to_owned()));
            }
        }
    });
    reader.batch_execute(&reading[0]).await.unwrap();
    let ledger = books.ledger().await;
    let settle = join_all((0..20).map(|_| async {
        let hold = take(&ledger, books.want(10)).await;
        hold.settle(books.charge(1)).await.unwrap();
    }));
    settle.await;
    // Each notice tells the last of those that were numbered together.
    let mut told = 0;
    while told < 20 {
        let (channel, payload) = notices.recv().await.unwrap();
        assert_eq!(channel, "turnpike_charge");
        told = payload.parse().unwrap();
    }
    for statement in &reading[1..] {
        assert!(
            !reader.query(statement, &[]).await.unwrap().is_empty(),
            "{statement}"
        );
    }
    for statement in [
        "select * from turnpike.charge",
        "select * from turnpike.account",
        "select turnpike.number_charges()",
    ] {
        let error = reader.batch_execute(statement).await.unwrap_err();
        assert_eq!(
            error.code().map(|code| code.code()),
            Some("42501"),
            "{statement}"
        );
    }
}
