//! Which stages are built.

use std::collections::BTreeMap;

use builder::dockerfile::Dockerfile;
use builder::plan::{Base, plan};

fn planned(text: &str, target: Option<&str>, args: &[(&str, &str)]) -> Result<(Vec<usize>, usize, Vec<Base>), String> {
    let dockerfile = Dockerfile::parse(text).expect("parses");
    let args: BTreeMap<String, String> = args.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let plan = plan(&dockerfile, target, &args, "linux/amd64").map_err(|error| error.to_string())?;
    let bases = plan.stages.iter().map(|stage| stage.base.clone()).collect();
    Ok((plan.stages.iter().map(|stage| stage.index).collect(), plan.steps, bases))
}

fn needed(text: &str, target: Option<&str>) -> Vec<usize> {
    planned(text, target, &[]).expect("plans").0
}

const FOUR: &str = "FROM a AS one\nRUN 1\nFROM a AS two\nRUN 2\nFROM one AS three\nRUN 3\nFROM scratch AS four\nCOPY --from=two x y\nCOPY --from=busybox x y";

#[test]
fn stages_that_nothing_needs_are_skipped() {
    assert_eq!(needed(FOUR, None), [1, 3]);
    assert_eq!(needed(FOUR, Some("three")), [0, 2]);
    assert_eq!(needed(FOUR, Some("THREE")), [0, 2]);
    assert_eq!(needed(FOUR, Some("0")), [0]);
    assert_eq!(needed("FROM a\nFROM b\nRUN --mount=type=bind,from=0,target=/x true\n", None), [0, 1]);
    assert_eq!(planned(FOUR, Some("five"), &[]), Err("target stage \"five\" could not be found".into()));
}

#[test]
fn steps_are_those_of_the_stages_that_are_built() {
    assert_eq!(planned(FOUR, None, &[]).expect("plans").1, 5);
    assert_eq!(planned("ARG a\nFROM x\nRUN y", None, &[]).expect("plans").1, 3);
}

#[test]
fn a_later_stage_of_the_same_name_hides_the_earlier_one() {
    assert_eq!(needed("FROM a AS x\nFROM b AS x\nFROM x", None), [1, 2]);
    // Not yet there: an image of that name.
    let (_, _, bases) = planned("FROM later\nFROM a AS later", Some("0"), &[]).expect("plans");
    assert_eq!(bases, [Base::Image("later".into())]);
}

#[test]
fn arguments_before_the_first_from_choose_the_base() {
    let text = "ARG V=1\nARG IMAGE=base:$V\nFROM ${IMAGE}";
    let base = |args: &[(&str, &str)]| planned(text, None, args).expect("plans").2.remove(0);
    assert_eq!(base(&[]), Base::Image("base:1".into()));
    assert_eq!(base(&[("V", "2")]), Base::Image("base:2".into()));
    assert_eq!(base(&[("IMAGE", "scratch")]), Base::Scratch);
    assert_eq!(planned("ARG X\nFROM $X", None, &[]), Err("base name ($X) should not be blank".into()));
    assert_eq!(planned("FROM --platform=$TARGETPLATFORM a", None, &[]).expect("plans").0, [0]);
    assert!(planned("FROM --platform=linux/riscv64 a", None, &[]).is_err());
    assert!(planned("FROM --platform=linux/x86_64 a", None, &[]).is_ok());
}
