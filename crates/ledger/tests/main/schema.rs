//! The rules of the schema, asked of Postgres' own catalog.

use ledger::admin::{Admin, IssueToken, NewUpstream, UsageBy};
use testkit::postgres::TestDb;

async fn offenders(statement: &str) -> Vec<String> {
    let db = TestDb::new().await;
    let client = db.client().await;
    client
        .query(statement, &[])
        .await
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect()
}

#[tokio::test]
async fn every_table_view_column_and_function_has_a_comment() {
    let bare = offenders(
        "select 'relation ' || c.relname from pg_class as c
          where c.relnamespace = 'turnpike'::regnamespace and c.relkind in ('r', 'p', 'v') and obj_description(c.oid, 'pg_class') is null
         union all
         select 'column ' || c.relname || '.' || a.attname from pg_class as c join pg_attribute as a on a.attrelid = c.oid
          where c.relnamespace = 'turnpike'::regnamespace and c.relkind in ('r', 'p', 'v') and not c.relispartition
            and a.attnum > 0 and not a.attisdropped and col_description(c.oid, a.attnum) is null
         union all
         select 'function ' || p.proname from pg_proc as p
          where p.pronamespace = 'turnpike'::regnamespace and obj_description(p.oid, 'pg_proc') is null
         union all
         select 'schema' where obj_description('turnpike'::regnamespace, 'pg_namespace') is null",
    )
    .await;
    assert!(bare.is_empty(), "without a comment: {bare:#?}");
}

/// Code matches on the names, so they are chosen: none is what Postgres would have called it.
#[tokio::test]
async fn every_constraint_has_a_name_of_its_own() {
    let nameless = offenders(
        "select c.relname || ': ' || n.conname from pg_constraint as n join pg_class as c on c.oid = n.conrelid
          where n.connamespace = 'turnpike'::regnamespace and not c.relispartition and n.contype in ('p', 'u', 'f', 'c', 'x')
            and (n.conname ~ '_(pkey|key|fkey|check|excl)\\d*$' or n.conname not like c.relname || '\\_%')",
    )
    .await;
    assert!(nameless.is_empty(), "{nameless:#?}");
}

#[tokio::test]
async fn no_table_is_without_a_primary_key_and_no_money_is_a_float() {
    let odd = offenders(
        "select 'no primary key: ' || c.relname from pg_class as c
          where c.relnamespace = 'turnpike'::regnamespace and c.relkind in ('r', 'p')
            and not exists (select from pg_constraint as n where n.conrelid = c.oid and n.contype = 'p')
         union all
         select 'a float: ' || c.relname || '.' || a.attname from pg_class as c join pg_attribute as a on a.attrelid = c.oid
          where c.relnamespace = 'turnpike'::regnamespace and c.relkind in ('r', 'p', 'v') and a.atttypid in ('float4'::regtype, 'float8'::regtype, 'money'::regtype)",
    )
    .await;
    assert!(odd.is_empty(), "{odd:#?}");
}

#[tokio::test]
async fn what_runs_as_its_owner_is_little_and_has_a_fixed_search_path() {
    let functions = offenders(
        "select proname || ' ' || coalesce(array_to_string(proconfig, ' '), '') from pg_proc
          where pronamespace = 'turnpike'::regnamespace and prosecdef order by 1",
    )
    .await;
    let path = "search_path=pg_catalog, pg_temp";
    let expected: Vec<_> = [
        "add_counter",
        "apply_credits",
        "claim_deliveries",
        "drop_charges",
        "ensure_charge_partitions",
        "find_token",
        "forget_dialogs",
        "look_at_budgets",
        "number_charges",
        "record_delivery",
        "release_hold",
        "remove_webhook",
        "replace_upstream_keys",
        "resale_issue",
        "resale_set_left",
        "set_upstream_keys",
        "set_webhook",
        "sweep_charge_seq",
        "sweep_events",
        "tell_upstream",
        "watch_budgets",
    ]
    .iter()
    .map(|name| format!("{name} {path}"))
    .collect();
    assert_eq!(functions, expected);
}

const RELATIONS: &str = "
    select format('%s: %s', c.relname, string_agg(distinct lower(a.privilege_type), ' ' order by lower(a.privilege_type)))
      from pg_class as c, aclexplode(c.relacl) as a
     where c.relnamespace = 'turnpike'::regnamespace and a.grantee = '{role}'::regrole
     group by c.relname
    union all
    select format('%s.%s: %s', c.relname, t.attname, string_agg(lower(a.privilege_type), ' ' order by a.privilege_type))
      from pg_class as c join pg_attribute as t on t.attrelid = c.oid, aclexplode(t.attacl) as a
     where c.relnamespace = 'turnpike'::regnamespace and a.grantee = '{role}'::regrole
     group by c.relname, t.attname
    union all
    select format('%s()', p.proname) from pg_proc as p, aclexplode(p.proacl) as a
     where p.pronamespace = 'turnpike'::regnamespace and a.grantee = '{role}'::regrole
     order by 1";

#[tokio::test]
async fn the_gateway_s_role_has_what_it_needs_and_no_more() {
    let grants = offenders(&RELATIONS.replace("{role}", "turnpike_gateway")).await;
    assert_eq!(
        grants,
        [
            "access_token: select",
            "access_token_counter.completion: update",
            "access_token_counter.completion_day: update",
            "access_token_counter.completion_month: update",
            "access_token_counter.day: update",
            "access_token_counter.leased: update",
            "access_token_counter.leased_completion: update",
            "access_token_counter.leased_prompt: update",
            "access_token_counter.month: update",
            "access_token_counter.prompt: update",
            "access_token_counter.prompt_day: update",
            "access_token_counter.prompt_month: update",
            "access_token_counter.spent: update",
            "access_token_counter.spent_day: update",
            "access_token_counter.spent_month: update",
            "access_token_counter: select",
            "account.balance: update",
            "account.leased: update",
            "account: select",
            "bury_instance()",
            "charge: insert select",
            "charge_key: insert select",
            "charge_unnumbered: insert",
            "chatbot_cooldown: delete insert select update",
            "claim_deliveries()",
            "claim_jobs()",
            "delivery: select",
            "dialog: delete insert select update",
            "drop_charges()",
            "end_job()",
            "ensure_charge_partitions()",
            "find_dead()",
            "first_id()",
            "hold: delete insert select",
            "identity: select",
            "imported_usage: select",
            "instance.buried_at: update",
            "instance.seen_at: update",
            "instance.stopped_at: update",
            "instance: insert select",
            "job: delete insert select update",
            "keep_objects()",
            "lease: delete insert select update",
            "lease_places()",
            "lease_purses()",
            "lease_windows()",
            "lock_job()",
            "make_dialog()",
            "migration: select",
            "number_charges()",
            "object.facts: update",
            "object: delete insert select",
            "park_exchange()",
            "price: select",
            "rate_chunk()",
            "rate_place: delete insert select update",
            "rate_window: delete insert select update",
            "record_delivery()",
            "resale_admin: select",
            "resale_issue()",
            "resale_set_left()",
            "resale_user: select",
            "return_purses()",
            "route: select",
            "settle_exchanges()",
            "start_cooldown()",
            "sweep_charge_seq()",
            "sweep_events()",
            "tell_upstream()",
            "tokens_used()",
            "upstream: select",
            "upstream_key: select",
            "usage_day: insert select update",
            "watch_budgets()",
            "webhook: select",
        ]
    );
}

#[tokio::test]
async fn the_admin_s_role_edits_settings_and_books_credits_and_moves_no_balance() {
    let grants = offenders(&RELATIONS.replace("{role}", "turnpike_admin")).await;
    let changes: Vec<_> = grants
        .iter()
        .filter(|grant| !grant.ends_with("()") && !grant.ends_with(": select"))
        .map(String::as_str)
        .collect();
    assert_eq!(
        changes,
        [
            "access_token: insert update",
            "account.credit_limit: insert update",
            "account.name: insert update",
            "credit.account_id: insert",
            "credit.amount: insert",
            "credit.note: insert",
            "dialog: delete insert",
            "imported_usage: delete insert select",
            "price.valid_to: update",
            "price: insert select",
            "resale_admin: delete insert select",
            "resale_user: delete insert select",
            "route: delete insert select update",
            "upstream: delete insert select update",
            "upstream_key: delete insert update",
        ]
    );
    assert!(
        !grants
            .iter()
            .any(|grant| grant == "lease_purses()" || grant == "settle_exchanges()")
    );
}

/// Of every column of every table, whoever adds one: what operators cannot read is exactly this.
#[tokio::test]
async fn upstream_keys_and_digests_are_readable_by_the_gateway_alone() {
    const HIDDEN: &str = "
        select c.relname || '.' || a.attname from pg_class as c join pg_attribute as a on a.attrelid = c.oid
         where c.relnamespace = 'turnpike'::regnamespace and c.relkind in ('r', 'p', 'v') and not c.relispartition
           and a.attnum > 0 and not a.attisdropped and not has_column_privilege('{role}', c.oid, a.attnum, 'select')
         order by 1";
    assert_eq!(
        offenders(&HIDDEN.replace("{role}", "turnpike_admin")).await,
        [
            "access_token.sha256",
            "access_token.upstream_key",
            "dialog.content",
            "dialog.name",
            "upstream_key.secret",
            "webhook.secret"
        ]
    );
    // The gateway on the other hand has no business with credits, and the views are for people.
    let hidden = offenders(&HIDDEN.replace("{role}", "turnpike_gateway")).await;
    let tables: Vec<_> = hidden
        .iter()
        .filter_map(|column| column.split_once('.'))
        .map(|(table, _)| table)
        .collect();
    for table in &tables {
        assert!(
            [
                "audit",
                "balances",
                "charge_closed",
                "charge_seq",
                "charge_sequencer",
                "charge_unnumbered",
                "credit",
                "estimates",
                "event",
                "numbered_charges",
                "open_holds",
                "open_jobs",
                "usage_by_model",
                "usage_daily",
                "webhook_deliveries"
            ]
            .contains(table),
            "{table}"
        );
    }
}

#[tokio::test]
async fn nobody_else_may_call_anything() {
    let open = offenders(
        "select p.proname::text from pg_proc as p
          where p.pronamespace = 'turnpike'::regnamespace
            and (p.proacl is null or exists (select from aclexplode(p.proacl) as a where a.grantee = 0))",
    )
    .await;
    assert!(open.is_empty(), "{open:#?}");
}

/// Tables, columns, functions and the schema itself: whoever is neither the owner nor one of the two roles has no right to any.
#[tokio::test]
async fn nobody_but_the_two_roles_has_any_right() {
    const OTHERS: &str = "
        with granted (thing, owner, acl) as (
            select c.relname::text, c.relowner, c.relacl from pg_class as c where c.relnamespace = 'turnpike'::regnamespace
            union all
            select c.relname || '.' || t.attname, c.relowner, t.attacl from pg_class as c join pg_attribute as t on t.attrelid = c.oid
             where c.relnamespace = 'turnpike'::regnamespace
            union all
            select p.proname || '()', p.proowner, p.proacl from pg_proc as p where p.pronamespace = 'turnpike'::regnamespace
            union all
            select 'schema', n.nspowner, n.nspacl from pg_namespace as n where n.oid = 'turnpike'::regnamespace)
        select format('%s: %s for %s', thing, a.privilege_type, case a.grantee when 0 then 'all' else a.grantee::regrole::text end)
          from granted, aclexplode(acl) as a
         where a.grantee not in (owner, 'turnpike_gateway'::regrole, 'turnpike_admin'::regrole)
            or a.is_grantable and a.grantee <> owner
         order by 1";
    let others = offenders(OTHERS).await;
    assert!(others.is_empty(), "{others:#?}");
    // The question finds what it looks for.
    let db = TestDb::new().await;
    let client = db.client().await;
    client
        .batch_execute("grant select (secret) on turnpike.upstream_key to public")
        .await
        .unwrap();
    let found = client.query(OTHERS, &[]).await.unwrap();
    let found: Vec<String> = found.iter().map(|row| row.get(0)).collect();
    assert_eq!(found, ["upstream_key.secret: SELECT for all"]);
}

/// The roles in use, not only on paper: the whole contract as the one, the whole hot path as the other.
#[tokio::test]
async fn the_roles_suffice_for_their_work() {
    let db = TestDb::new().await;
    let client = db.client().await;
    client
        .batch_execute(
            "set role turnpike_admin;
             select turnpike.create_account('alice'), turnpike.top_up('alice', 20);
             select turnpike.set_credit_limit('alice', 5);
             select turnpike.issue_token('alice', models => '{gpt*}');
             select turnpike.rotate_token(prefix) from turnpike.access_token;
             select turnpike.revoke_token(prefix) from turnpike.access_token;
             select turnpike.issue_token('alice');
             select turnpike.set_price('gpt-4o', input => 1), turnpike.set_price('gpt-4o', input => 2);
             select turnpike.set_upstream('a', 'https://a', key => 'env:A'), turnpike.set_route('gpt*', 'a');
             select turnpike.release_hold(gen_random_uuid());
             select turnpike.set_upstream('a', 'https://a', key => 'sk-canary'), turnpike.set_upstream('a', 'https://b');
             insert into turnpike.upstream_key (upstream_id, secret, weight) select id, 'sk-second', 2 from turnpike.upstream;
             update turnpike.upstream_key set weight = 3, secret = 'sk-third' where weight = 2;
             update turnpike.access_token set upstream_key = 'env:OWN', label = 'x';
             delete from turnpike.route;
             delete from turnpike.upstream_key where weight = 3;
             delete from turnpike.upstream;",
        )
        .await
        .unwrap();
    for statement in [
        "select secret from turnpike.upstream_key",
        "select secret from turnpike.webhook",
        "insert into turnpike.charge_seq values (1, gen_random_uuid())",
        "select * from turnpike.upstream_key",
        "select upstream_key from turnpike.access_token",
        "select sha256 from turnpike.access_token",
        "update turnpike.access_token set label = upstream_key",
        "update turnpike.access_token set label = 'y' returning upstream_key",
        "update turnpike.upstream_key set weight = 5 where secret like 'sk-%'",
        "insert into turnpike.upstream_key (upstream_id, secret) values (1, 'x') returning secret",
        "delete from turnpike.upstream_key returning secret",
        "copy turnpike.upstream_key to stdout",
    ] {
        let error = client.batch_execute(statement).await.expect_err(statement);
        assert_eq!(
            error.code().map(|code| code.code()),
            Some("42501"),
            "{statement}: {error}"
        );
    }
    for (role, statement) in [
        ("turnpike_admin", "update turnpike.account set balance = 0"),
        (
            "turnpike_admin",
            "insert into turnpike.account (name, balance) values ('x', 1)",
        ),
        (
            "turnpike_admin",
            "update turnpike.access_token_counter set spent = 0",
        ),
        (
            "turnpike_admin",
            "insert into turnpike.charge select * from turnpike.charge",
        ),
        ("turnpike_admin", "update turnpike.charge set amount = 0"),
        ("turnpike_admin", "delete from turnpike.credit"),
        (
            "turnpike_admin",
            "insert into turnpike.credit (account_id, amount, note, created_by) values (1, 1, '', 'somebody else')",
        ),
        ("turnpike_admin", "delete from turnpike.hold"),
        ("turnpike_gateway", "select note from turnpike.credit"),
        ("turnpike_gateway", "update turnpike.charge set amount = 0"),
        ("turnpike_gateway", "delete from turnpike.charge"),
        (
            "turnpike_gateway",
            "update turnpike.access_token set budget = null",
        ),
        (
            "turnpike_gateway",
            "update turnpike.account set credit_limit = null",
        ),
        ("turnpike_gateway", "select turnpike.top_up('alice', 1)"),
    ] {
        let error = client
            .batch_execute(&format!("set role {role}; {statement}"))
            .await
            .expect_err(statement);
        assert_eq!(
            error.code().map(|code| code.code()),
            Some("42501"),
            "{role}: {statement}: {error}"
        );
    }
}

/// One statement for each function the admin's role may call, by name, and every view: none may be forgotten here.
#[tokio::test]
async fn the_admin_s_role_can_run_every_function_and_view_of_the_contract() {
    const CALLS: &[(&str, &str)] = &[
        ("create_account", "turnpike.create_account('alice', 3)"),
        ("account_id", "turnpike.account_id('alice')"),
        ("set_credit_limit", "turnpike.set_credit_limit('alice', 5)"),
        ("top_up", "turnpike.top_up('alice', 20, 'invoice 17')"),
        (
            "issue_token",
            "turnpike.issue_token('alice', upstream_key => 'sk-own')",
        ),
        (
            "find_token",
            "turnpike.find_token(prefix) from turnpike.access_token",
        ),
        (
            "rotate_token",
            "turnpike.rotate_token(prefix) from turnpike.access_token",
        ),
        (
            "revoke_token",
            "turnpike.revoke_token(prefix) from turnpike.access_token",
        ),
        ("new_secret", "turnpike.new_secret()"),
        ("set_price", "turnpike.set_price('gpt-4o', input => 1)"),
        (
            "set_upstream",
            "turnpike.set_upstream('a', 'https://a', key => 'sk-1')",
        ),
        (
            "replace_upstream_keys",
            "turnpike.replace_upstream_keys(id, 'sk-2') from turnpike.upstream",
        ),
        (
            "set_upstream_keys",
            "turnpike.set_upstream_keys('a', '{env:A,env:B}', '{2,1}')",
        ),
        ("set_route", "turnpike.set_route('gpt*', 'a')"),
        ("remove_route", "turnpike.remove_route('gpt*')"),
        ("release_hold", "turnpike.release_hold(gen_random_uuid())"),
        ("nano", "turnpike.nano(1.5)"),
        ("usd", "turnpike.usd(1500000000)"),
        ("is_pattern", "turnpike.is_pattern('gpt*')"),
        ("are_patterns", "turnpike.are_patterns('{gpt*}')"),
        ("are_words", "turnpike.are_words('{models}')"),
        ("first_id", "turnpike.first_id(now())"),
        ("tokens_used", "turnpike.tokens_used(1)"),
        (
            "ensure_charge_partitions",
            "turnpike.ensure_charge_partitions()",
        ),
        ("drop_charges", "turnpike.drop_charges('2026-01-01')"),
        ("number_charges", "turnpike.number_charges()"),
        ("charges_after", "turnpike.charges_after(0)"),
        (
            "set_webhook",
            "turnpike.set_webhook('ops', 'https://example.com/hook')",
        ),
        ("remove_webhook", "turnpike.remove_webhook('ops')"),
    ];
    let db = TestDb::new().await;
    let client = db.client().await;
    client
        .batch_execute("set role turnpike_admin")
        .await
        .unwrap();
    for (name, call) in CALLS {
        assert!(call.starts_with(&format!("turnpike.{name}(")), "{call}");
        let rows = client.query(&format!("select {call}"), &[]).await;
        let rows = rows.unwrap_or_else(|error| panic!("{call}: {error:?}"));
        // There are no charges.
        let expected = usize::from(*name != "charges_after");
        assert_eq!(rows.len(), expected, "{call}");
    }
    let names = |statement: &'static str| {
        let client = &client;
        async move {
            let rows = client.query(statement, &[]).await.unwrap();
            rows.iter()
                .map(|row| row.get::<_, String>(0))
                .collect::<Vec<_>>()
        }
    };
    let granted = names(
        "select proname::text from pg_proc where pronamespace = 'turnpike'::regnamespace
            and has_function_privilege('turnpike_admin', oid, 'execute') order by 1",
    )
    .await;
    let mut called: Vec<_> = CALLS.iter().map(|(name, _)| *name).collect();
    called.sort_unstable();
    assert_eq!(granted, called);

    let views = names(
        "select relname::text from pg_class where relnamespace = 'turnpike'::regnamespace and relkind = 'v'",
    )
    .await;
    assert_eq!(views.len(), 9);
    for view in views {
        let rows = client
            .query(&format!("select * from turnpike.{view}"), &[])
            .await;
        let rows = rows.unwrap_or_else(|error| panic!("{view}: {error:?}"));
        assert!(view != "audit" || rows.is_empty());
    }
    // A broken constraint quotes the row, but not what its reader may not read.
    let broken = "update turnpike.upstream_key set weight = 0";
    let error = client.batch_execute(broken).await.unwrap_err();
    let detail = format!("{:?}", error.as_db_error().unwrap());
    assert!(
        detail.contains("upstream_key_weight_positive") && !detail.contains("sk-2"),
        "{detail}"
    );
}

/// Every command of the program, by a login that is an operator and nothing else.
#[tokio::test]
async fn the_admin_s_role_suffices_for_the_commands() {
    let db = TestDb::new().await;
    let owner = db.client().await;
    let user = format!("admin_{}", uuid::Uuid::now_v7().simple());
    owner
        .batch_execute(&format!("create role {user} login in role turnpike_admin"))
        .await
        .unwrap();
    let config = ledger::Config::from_url(&db.url_as(&user)).unwrap();
    let admin = Admin::connect(&config).await.unwrap();
    admin.create_account("alice", None).await.unwrap();
    admin
        .top_up("alice", tariff::Amount::from_nano(1), "")
        .await
        .unwrap();
    admin.accounts().await.unwrap();
    let wanted = IssueToken {
        account: "alice".into(),
        ..IssueToken::default()
    };
    let issued = admin.issue_token(&wanted).await.unwrap();
    let rotated = admin.rotate_token(issued.token.expose()).await.unwrap();
    assert_eq!(rotated.id, issued.id);
    admin.revoke_token(rotated.token.expose()).await.unwrap();
    admin.tokens(None).await.unwrap();
    admin.prices().await.unwrap();
    let upstream = NewUpstream {
        name: "a",
        base_url: "https://a",
        dialect: "openai",
        enabled: true,
        ..NewUpstream::default()
    };
    let keys = ["env:A".to_owned(), "env:B".to_owned()];
    admin
        .set_upstream(&upstream, Some(&keys), Some(&[2, 1]))
        .await
        .unwrap();
    admin.set_route("gpt*", "a", 0).await.unwrap();
    let listed = admin.upstreams().await.unwrap();
    assert_eq!(
        (&listed[0].weights[..], &listed[0].models[..]),
        (&[2, 1][..], &["gpt*".to_owned()][..])
    );
    assert_eq!(admin.routes().await.unwrap().len(), 1);
    assert_eq!(admin.remove_route("gpt*", Some("a")).await.unwrap(), 1);
    assert!(admin.enable_upstream("a", false).await.unwrap());
    admin.credits("alice", 10).await.unwrap();
    admin.usage(UsageBy::Token, 0, None, None).await.unwrap();
    assert!(admin.audit().await.unwrap().is_empty());
    drop(admin);
    owner
        .batch_execute(&format!("drop role {user}"))
        .await
        .unwrap();
}
