//! `dbird render`: the documents that a deploy would apply, without building or asking anything.

use std::{fs, path::PathBuf};

use dbird_core::StepKind;
use serde_json::Value;

use super::{Context, Done};
use crate::{
    failure::{Failure, Result},
    output::Event,
};

/// Show the documents that a deploy would apply, offline
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Nothing is built or asked: the image's digest is left as a reference to the step that will give it.

Examples:
    dbird render                    on the terminal
    dbird render -e prod --out out  as files: out/local/prod/image.json, ...
    dbird render -e prod -c aws --out out
                                    also out/aws/prod/infrastructure.template.json, which CloudFormation takes as it is")]
pub(crate) struct Args {
    /// Write a file for each document into this folder
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    out: Option<PathBuf>,
}

/// Renders one environment.
pub(crate) fn run(args: &Args, cx: &Context) -> Result<Done> {
    let project = cx.project()?;
    let name = project.environment(cx.wanted())?;
    let spec = project.spec(&name, cx.cloud(), &cx.global.set, &cx.out)?;
    let documents = project.render(&spec, None)?;
    let folder = args.out.as_ref().map(|out| out.join(documents.cloud.name()).join(&documents.environment));
    if let Some(folder) = &folder {
        fs::create_dir_all(folder).map_err(|e| Failure::io("create", folder, &e))?;
    }
    for document in &documents.steps {
        let file = folder.as_ref().map(|f| f.join(format!("{}.json", document.step)));
        if let Some(file) = &file {
            let text = format!("{}\n", pretty(&document.body));
            fs::write(file, text).map_err(|e| Failure::io("write", file, &e))?;
        }
        // What the cloud's own engine takes stands alone too, for those who go on without dbird.
        let template = document.body.get("template").filter(|_| document.kind == StepKind::Infrastructure);
        if let (Some(folder), Some(template)) = (&folder, template) {
            let file = folder.join(format!("{}.template.json", document.step));
            fs::write(&file, format!("{}\n", pretty(template))).map_err(|e| Failure::io("write", &file, &e))?;
        }
        cx.out.event(Event::Document {
            environment: documents.environment.clone(),
            step: document.step.to_string(),
            title: document.title.clone(),
            digest: document.digest().to_string(),
            file: file.map(|f| f.display().to_string()),
            body: document.body.clone(),
        });
    }
    Ok(Done::success())
}

fn pretty(body: &Value) -> String {
    serde_json::to_string_pretty(body).unwrap_or_else(|_| body.to_string())
}
