//! `turnpike token-gen …` and `turnpike chatbot …`: earlier systems' commands under their own names.

use std::net::ToSocketAddrs as _;

use ledger::admin::{Admin, IssueToken};

use crate::{
    cli::{ChatbotMode, TokenGen},
    fatal::{Code, Fatal},
    settings::{Settings, Switch},
};

/// Sets the program up as chatgpt_chatbot was called.
pub(crate) fn chatbot_mode(mode: &ChatbotMode, settings: &mut Settings) -> Result<(), Fatal> {
    let wanted = [&mode.http, &mode.grpc]
        .into_iter()
        .find(|address| !address.is_empty())
        .ok_or_else(|| Fatal::new(Code::Usage, "give --grpc HOST:PORT or --http HOST:PORT"))?;
    let address = wanted
        .to_socket_addrs()
        .map_err(|error| Fatal::because(Code::Usage, &format!("{wanted} is no address"), &error))?
        // An unqualified localhost is the address of version 4, as with most of its clients.
        .min_by_key(|address| address.is_ipv6())
        .ok_or_else(|| Fatal::new(Code::Usage, format!("{wanted} has no address")))?;
    settings.listen.bind_address = address.ip();
    settings.listen.port = address.port();
    settings.doors.door_chatbot = Switch::On;
    if mode.debug {
        settings.doors.grpc_reflection = Some("debug".to_owned());
        settings.log.log_level = "debug".to_owned();
    }
    Ok(())
}

/// Makes a token and says so as the script did.
pub(super) async fn token_gen(wanted: TokenGen, admin: &Admin) -> Result<(), Fatal> {
    admin.ensure_account(&wanted.account).await?;
    let issued = admin
        .issue_token(&IssueToken {
            account: wanted.account,
            label: Some("token-gen".to_owned()),
            expires_at_ms: Some(wanted.expires.as_millisecond()),
            ..IssueToken::default()
        })
        .await?;
    if wanted.admin {
        admin.make_resale_admin(issued.id).await?;
    } else {
        admin
            .set_budgets(
                issued.id,
                wanted.user_token_limit,
                wanted.chat_gpt_token_limit,
            )
            .await?;
    }
    println!(
        "Новый токен сгенерирован успешно: {}",
        issued.token.expose()
    );
    println!("Expires: {}", wanted.expires);
    if wanted.admin {
        println!("Admin token: budgets are its users'");
    } else {
        println!("Prompt tokens: {}", wanted.user_token_limit);
        println!("Completion tokens: {}", wanted.chat_gpt_token_limit);
    }
    Ok(())
}
