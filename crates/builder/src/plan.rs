//! Which stages are needed, and what each stands on. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::dockerfile::{Command, Dockerfile, Expander, Instruction, MountKind, Stage};
use crate::error::{BuildError, Kind};

/// What a stage stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// Nothing.
    Scratch,
    /// An earlier stage.
    Stage(usize),
    /// An image.
    Image(String),
}

/// What `--from` means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum From {
    /// An earlier stage.
    Stage(usize),
    /// An image.
    Image(String),
}

/// One stage that is needed.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedStage {
    /// Its number in the Dockerfile.
    pub index: usize,
    /// What it stands on.
    pub base: Base,
    /// The number of its `FROM` among all steps, from 1; its instructions follow.
    pub first_step: usize,
}

/// The work.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The stage that becomes the image.
    pub target: usize,
    /// The stages that are needed, in order.
    pub stages: Vec<PlannedStage>,
    /// Values of the arguments before the first `FROM`.
    pub global: BTreeMap<String, String>,
    /// All steps, the global arguments' included.
    pub steps: usize,
}

/// Plans a build. `args` are the build's arguments, `platform` is `os/architecture` of this machine.
///
/// # Errors
/// An unknown target, a base that can't be expanded.
pub fn plan(
    dockerfile: &Dockerfile,
    target: Option<&str>,
    args: &BTreeMap<String, String>,
    platform: &str,
) -> Result<Plan, BuildError> {
    let global = global(dockerfile, args, platform)?;
    let target = match target.filter(|target| !target.is_empty()) {
        None => dockerfile.stages.len() - 1,
        Some(wanted) => stage_index(&dockerfile.stages, wanted, dockerfile.stages.len())
            .ok_or_else(|| Kind::invalid(format!("target stage {wanted:?} could not be found")))?,
    };
    let builtin = platform_args(platform);
    let lookup = |name: &str| global.get(name).or_else(|| builtin.get(name)).cloned();
    let expander = Expander::new(dockerfile.escape, &lookup);
    let mut bases = Vec::new();
    for (index, stage) in dockerfile.stages.iter().enumerate().take(target + 1) {
        let lines = (stage.from.line, stage.from.end);
        let text = |text: &str| expander.word(text).map_err(|error| Kind::invalid(error.to_string()).at(lines));
        let base = text(&stage.base)?;
        if base.is_empty() {
            let message = format!("base name ({}) should not be blank", stage.base);
            return Err(Kind::Invalid(message).at(lines));
        }
        if let Some(wanted) = &stage.platform {
            let wanted = text(wanted)?;
            if !wanted.is_empty() && !same_platform(&wanted, platform) {
                let message = format!("platform {wanted:?} can't be built here: this machine is {platform}");
                return Err(Kind::Invalid(message).at(lines));
            }
        }
        bases.push(match stage_by_name(&dockerfile.stages[..index], &base) {
            Some(earlier) => Base::Stage(earlier),
            None if base == "scratch" => Base::Scratch,
            None => Base::Image(base),
        });
    }
    let mut needed = BTreeSet::new();
    let mut open = vec![target];
    while let Some(index) = open.pop() {
        if !needed.insert(index) {
            continue;
        }
        if let Base::Stage(earlier) = bases[index] {
            open.push(earlier);
        }
        for instruction in &dockerfile.stages[index].instructions {
            for name in sources(&instruction.command) {
                if let From::Stage(earlier) = resolve(&dockerfile.stages, index, name) {
                    open.push(earlier);
                }
            }
        }
    }
    let mut steps = dockerfile.global.len();
    let mut stages = Vec::new();
    for index in needed {
        stages.push(PlannedStage { index, base: bases[index].clone(), first_step: steps + 1 });
        steps += 1 + dockerfile.stages[index].instructions.len();
    }
    Ok(Plan { target, stages, global, steps })
}

/// What `--from=NAME` means in a stage.
pub fn resolve(stages: &[Stage], current: usize, name: &str) -> From {
    match stage_index(stages, name, current) {
        Some(index) => From::Stage(index),
        None => From::Image(name.to_owned()),
    }
}

/// The stages and images that an instruction takes files from.
fn sources(command: &Command) -> Vec<&str> {
    match command {
        Command::Copy(copying) | Command::Add(copying) => copying.from.as_deref().into_iter().collect(),
        Command::Run { mounts, .. } => mounts
            .iter()
            .filter_map(|mount| match &mount.kind {
                MountKind::Bind { from, .. } | MountKind::Cache { from, .. } => from.as_deref(),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    }
}

fn stage_by_name(stages: &[Stage], name: &str) -> Option<usize> {
    stages.iter().rposition(|stage| stage.name.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(name)))
}

/// By name or by number, among the first `limit`.
fn stage_index(stages: &[Stage], name: &str, limit: usize) -> Option<usize> {
    let number = || name.parse::<usize>().ok().filter(|index| *index < limit);
    stage_by_name(&stages[..limit], name).or_else(number)
}

fn global(
    dockerfile: &Dockerfile,
    args: &BTreeMap<String, String>,
    platform: &str,
) -> Result<BTreeMap<String, String>, BuildError> {
    let builtin = platform_args(platform);
    let mut values: BTreeMap<String, String> = BTreeMap::new();
    for instruction in &dockerfile.global {
        let Instruction { command: Command::Arg(variables), .. } = instruction else { continue };
        for variable in variables {
            let lookup = |name: &str| values.get(name).or_else(|| builtin.get(name)).cloned();
            let expanded = |text: &String| {
                Expander::new(dockerfile.escape, &lookup)
                    .word(text)
                    .map_err(|error| Kind::invalid(error.to_string()).at((instruction.line, instruction.end)))
            };
            let value = match args.get(&variable.name) {
                Some(given) => Some(given.clone()),
                None => variable.default.as_ref().map(expanded).transpose()?,
            };
            values.extend(value.map(|value| (variable.name.clone(), value)));
        }
    }
    Ok(values)
}

/// The arguments that say what is built on what.
pub fn platform_args(platform: &str) -> BTreeMap<String, String> {
    let mut parts = platform.splitn(3, '/');
    let (os, arch, variant) =
        (parts.next().unwrap_or_default(), parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let mut values = BTreeMap::new();
    for side in ["TARGET", "BUILD"] {
        for (name, value) in [("PLATFORM", platform), ("OS", os), ("ARCH", arch), ("VARIANT", variant)] {
            values.insert(format!("{side}{name}"), value.to_owned());
        }
    }
    values
}

/// `linux/amd64`, `linux/x86_64` and `amd64` are one.
fn same_platform(wanted: &str, platform: &str) -> bool {
    let normal = |text: &str| {
        let (os, arch) = text.split_once('/').unwrap_or(("linux", text));
        let arch = match arch {
            "x86_64" | "x86-64" | "amd64/v1" => "amd64",
            "aarch64" | "arm64/v8" => "arm64",
            other => other,
        };
        format!("{os}/{arch}")
    };
    normal(wanted) == normal(platform)
}

/// Whether a platform can be built here.
///
/// # Errors
/// [`Kind::Invalid`] when it can't.
pub fn check_platform(wanted: Option<&str>, platform: &str) -> Result<(), Kind> {
    match wanted.filter(|wanted| !wanted.is_empty() && !same_platform(wanted, platform)) {
        Some(wanted) => {
            Err(Kind::invalid(format!("platform {wanted:?} can't be built here: this machine is {platform}")))
        }
        None => Ok(()),
    }
}
