//! `turnpike token-gen …`

use ledger::admin::{Admin, IssueToken};

use crate::{cli::TokenGen, fatal::Fatal};

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
