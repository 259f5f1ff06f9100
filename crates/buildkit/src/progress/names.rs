//! What the steps of a build are called: `[stage 2/5] RUN …`. Pure.

use std::collections::BTreeMap;

use builder::dockerfile::{Command, Dockerfile};
use builder::plan::{Base, Plan};
use engine::content::Reference;

/// The names of the steps that count, by stage: the image it stands on, and the instructions that touch files. Each
/// stage's list is that of all its instructions, `FROM` first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct StepNames {
    pub stages: BTreeMap<usize, Vec<Option<String>>>,
    /// Steps that belong to no stage, which come first.
    pub global: usize,
}

impl StepNames {
    pub fn of(dockerfile: &Dockerfile, plan: &Plan) -> Self {
        let several = dockerfile.stages.len() > 1;
        let mut stages = BTreeMap::new();
        for planned in &plan.stages {
            let stage = &dockerfile.stages[planned.index];
            let mut texts = vec![match &planned.base {
                Base::Image(name) => {
                    let whole = Reference::parse(name).map_or_else(|_| name.clone(), |reference| reference.to_string());
                    Some(format!("FROM {whole}"))
                }
                Base::Scratch | Base::Stage(_) => None,
            }];
            texts.extend(stage.instructions.iter().map(|instruction| {
                let counts = matches!(
                    instruction.command,
                    Command::Run { .. } | Command::Copy(_) | Command::Add(_) | Command::Workdir(_)
                );
                counts.then(|| upper(&instruction.original))
            }));
            let total = texts.iter().flatten().count();
            let width = total.to_string().len();
            let name = match (&stage.name, several) {
                (_, false) => String::new(),
                (Some(name), true) => format!("{name} "),
                (None, true) => format!("stage-{} ", planned.index),
            };
            let mut number = 0;
            let names = texts.into_iter().map(|text| {
                text.map(|text| {
                    number += 1;
                    format!("[{name}{number:width$}/{total}] {text}")
                })
            });
            stages.insert(planned.index, names.collect());
        }
        Self { stages, global: dockerfile.global.len() }
    }
}

/// The instruction's word in upper case.
fn upper(text: &str) -> String {
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    format!("{}{}", text[..end].to_ascii_uppercase(), &text[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_counted_as_buildkit_counts_them() {
        let text = "ARG V=1\nFROM busybox AS Make\nENV A=b\nrun  make\nFROM scratch\nCOPY --from=make /a /a\nLABEL a=b\nFROM make\nWORKDIR /x";
        let dockerfile = Dockerfile::parse(text).unwrap();
        let names = |target: &str| {
            let plan = builder::plan::plan(&dockerfile, Some(target), &BTreeMap::new(), "linux/amd64").unwrap();
            StepNames::of(&dockerfile, &plan)
        };
        let found = names("1");
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(found.global, 1);
        assert_eq!(
            found.stages[&0],
            [some("[make 1/2] FROM docker.io/library/busybox:latest"), None, some("[make 2/2] RUN  make")]
        );
        assert_eq!(found.stages[&1], [None, some("[stage-1 1/1] COPY --from=make /a /a"), None]);
        assert_eq!(names("2").stages[&2], [None, some("[stage-2 1/1] WORKDIR /x")]);
        let alone = Dockerfile::parse("FROM busybox\nRUN a").unwrap();
        let plan = builder::plan::plan(&alone, None, &BTreeMap::new(), "linux/amd64").unwrap();
        assert_eq!(StepNames::of(&alone, &plan).stages[&0][1], some("[2/2] RUN a"));
    }
}
