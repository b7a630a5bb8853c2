//! argv → request → flow → report. No decisions are taken here.

mod args;
#[cfg(feature = "operator")]
mod args_csr;
mod args_fleet;
#[cfg(feature = "operator")]
mod args_issue;
#[cfg(feature = "operator")]
mod args_key;
#[cfg(feature = "operator")]
mod args_lint;
#[cfg(feature = "operator")]
mod args_policy;
#[cfg(feature = "operator")]
mod args_profile;
#[cfg(feature = "operator")]
mod args_template;
mod args_time;
#[cfg(feature = "operator")]
mod ca;
#[cfg(feature = "operator")]
mod cert;
mod clock;
mod connect;
mod device;
#[cfg(feature = "operator")]
mod explain;
#[cfg(feature = "operator")]
mod faces;
mod identity;
#[cfg(feature = "operator")]
mod init;
#[cfg(feature = "operator")]
mod ledger;
#[cfg(feature = "operator")]
mod policy;
mod preflight;
#[cfg(feature = "operator")]
mod profile;
mod provision;
#[cfg(feature = "sandbox")]
mod replay;
mod report;
#[cfg(feature = "sandbox")]
mod sandbox;
mod settings;
#[cfg(feature = "operator")]
mod sweep;
#[cfg(feature = "operator")]
mod template;
mod version;
mod wire;
mod wire_device;
mod wire_token;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use report::Output;
use settings::Settings;

/// Gives every device its own X.509 identity, and proves it good before the first connect to
/// AWS IoT Core
#[derive(Parser, Debug)]
#[command(name = "nameplate", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    global: args::Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    #[cfg(feature = "operator")]
    #[command(subcommand)]
    Ca(ca::Command),
    #[cfg(feature = "operator")]
    #[command(subcommand)]
    Cert(cert::Command),
    #[command(subcommand)]
    Clock(clock::Command),
    Connect(connect::Args),
    #[command(subcommand)]
    Device(device::Command),
    #[cfg(feature = "operator")]
    Explain(explain::Args),
    #[cfg(feature = "operator")]
    Init(init::Args),
    #[cfg(feature = "operator")]
    #[command(subcommand)]
    Ledger(ledger::Command),
    #[cfg(feature = "operator")]
    #[command(subcommand)]
    Policy(policy::Command),
    Preflight(preflight::Args),
    #[cfg(feature = "operator")]
    #[command(subcommand)]
    Profile(profile::Command),
    Provision(provision::Args),
    #[cfg(feature = "sandbox")]
    #[command(subcommand)]
    Sandbox(sandbox::Command),
    #[cfg(feature = "operator")]
    Sweep(sweep::Args),
    #[cfg(feature = "operator")]
    #[command(subcommand)]
    Template(template::Command),
    Version(version::Args),
}

impl Command {
    /// Whether its report has findings, as SARIF and JUnit want them.
    fn finds(&self) -> bool {
        match self {
            #[cfg(feature = "operator")]
            Self::Cert(command) => command.finds(),
            #[cfg(feature = "operator")]
            Self::Policy(command) => command.finds(),
            #[cfg(feature = "operator")]
            Self::Template(command) => command.finds(),
            _ => false,
        }
    }
}

/// Runs one command line and returns its exit code.
pub fn run(command_line: impl IntoIterator<Item = OsString>) -> ExitCode {
    let command_line: Vec<OsString> = command_line.into_iter().collect();
    let cli = match Cli::try_parse_from(&command_line) {
        Ok(cli) => cli,
        Err(error) => return report::usage(&error, args::format_of(&command_line)),
    };
    let output = Output::new(&cli.global);
    if let Some(failure) = output.without_findings(cli.command.finds()) {
        return output.fail(&failure);
    }
    let settings = match Settings::resolve(&cli.global) {
        Ok(settings) => settings,
        Err(failure) => return output.fail(&failure),
    };
    match cli.command {
        #[cfg(feature = "operator")]
        Command::Ca(command) => command.run(&settings, output),
        #[cfg(feature = "operator")]
        Command::Cert(command) => command.run(&settings, output),
        Command::Clock(command) => command.run(&settings, output),
        Command::Connect(args) => output.finish(args.run(&settings)),
        Command::Device(command) => command.run(&settings, output),
        #[cfg(feature = "operator")]
        Command::Explain(args) => output.finish(args.run(&settings)),
        #[cfg(feature = "operator")]
        Command::Init(args) => output.finish(args.run(&settings)),
        #[cfg(feature = "operator")]
        Command::Ledger(command) => command.run(&settings, output),
        #[cfg(feature = "operator")]
        Command::Policy(command) => command.run(&settings, output),
        Command::Preflight(args) => output.finish(args.run(&settings)),
        #[cfg(feature = "operator")]
        Command::Profile(command) => command.run(output),
        Command::Provision(args) => output.finish(args.run(&settings)),
        #[cfg(feature = "sandbox")]
        Command::Sandbox(command) => command.run(&settings, output),
        #[cfg(feature = "operator")]
        Command::Sweep(args) => output.finish(args.run(&settings)),
        #[cfg(feature = "operator")]
        Command::Template(command) => command.run(&settings, output),
        Command::Version(args) => output.finish(args.run(&settings)),
    }
}
