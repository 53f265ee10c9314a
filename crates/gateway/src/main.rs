//! The program `turnpike`: a transparent, pass-through metering gateway for OpenAI-compatible APIs.

mod activation;
mod admin;
mod admission;
mod answer;
mod azure;
mod billing;
mod body;
mod certificate;
mod cli;
mod commands;
mod console;
mod counting;
mod drain;
mod endpoint;
mod exchange;
mod fatal;
mod front_doors;
mod gateway;
mod health;
mod jobs;
mod kept;
mod limits;
mod models;
mod passing;
mod places;
mod price_list;
mod process;
mod reckon;
mod record;
mod refusal;
mod sandbox;
mod serve;
mod settings;
mod shipped;
mod socket;
mod sound;
mod startup;
mod strangers;
mod telemetry;
mod through;
mod units;
mod upload;
mod webhooks;
mod work;
mod worker;
mod workers;

use std::process::ExitCode;

/// Returns memory of short-lived buffers to other threads quickly, which glibc's allocator does not.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match cli::parse().and_then(run) {
        Ok(code) => code,
        Err(fatal) => {
            eprintln!("turnpike: {fatal}");
            fatal.exit_code()
        }
    }
}

fn run(command: cli::Command) -> Result<ExitCode, fatal::Fatal> {
    // These want neither settings nor a database.
    match &command {
        cli::Command::Completions { shell } => {
            cli::completions(*shell);
            return Ok(ExitCode::SUCCESS);
        }
        cli::Command::Man { dir } => {
            return cli::manual(dir.as_deref()).map(|()| ExitCode::SUCCESS);
        }
        _ => {}
    }
    let mut settings = settings::Settings::from_env()?;
    if let cli::Command::Chatbot(mode) = &command {
        commands::chatbot_mode(mode, &mut settings)?;
    }
    telemetry::start_logging(&settings.log)?;
    process::prepare();
    match command {
        cli::Command::Serve | cli::Command::Chatbot(_) => {
            serve::serve(settings).map(|()| ExitCode::SUCCESS)
        }
        command => commands::run(command, &settings),
    }
}
