//! `drupe template`, and `drupe run --from`.

use crate::outside::{date, plain, size};
use clap::Subcommand;
use drupe::outside::Remote;
use drupe::{SaveOptions, Templates};
use std::io::Write;

#[derive(Subcommand)]
pub enum Verb {
    /// Keep an image of a running sandbox, which goes on, as a template
    Create {
        /// The template
        #[arg(value_name = "TEMPLATE")]
        template: String,
        /// The sandbox
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// List the templates
    List,
    /// Remove templates
    Rm {
        /// The templates
        #[arg(value_name = "TEMPLATE", required = true)]
        templates: Vec<String>,
    },
}

/// Does it.
pub fn template(verb: &Verb) -> anyhow::Result<u8> {
    let templates = Templates::own()?;
    match verb {
        Verb::Create { template, name } => {
            let path = templates.path(template)?;
            Remote::find(name)?.save(&path, true, &SaveOptions::default())?;
        }
        Verb::List => {
            let all = templates.list()?;
            let width = all.iter().map(|t| t.name.len()).max().unwrap_or(0).max(8);
            let mut out = std::io::stdout().lock();
            writeln!(out, "{:<width$} {:>7} {:<24} COMMAND", "TEMPLATE", "SIZE", "MADE")?;
            for t in &all {
                let command = match &t.command {
                    Ok(command) => command.join(" "),
                    Err(why) => format!("({why})"),
                };
                let command = plain(&command).replace('\n', "\\n");
                writeln!(out, "{:<width$} {:>7} {:<24} {command}", t.name, size(t.bytes), date(t.made))?;
            }
        }
        Verb::Rm { templates: names } => {
            for name in names {
                templates.remove(name)?;
            }
        }
    }
    Ok(0)
}
