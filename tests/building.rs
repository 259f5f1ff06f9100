//! `hythe build`, alone: no daemon runs.

use std::{fs, path::Path};

use crate::cluster::{Cluster, text};

const DOCKERFILE: &str = "\
FROM busybox:1 AS tools
RUN echo tool > /tool
FROM busybox:1
ARG FLAVOUR=plain
RUN --mount=type=secret,id=key test \"$(cat /run/secrets/key)\" = hidden && echo $FLAVOUR > /flavour
COPY --from=tools /tool /tool
";

/// A machine with a context on it.
fn machine() -> (Cluster, String) {
    let machine = Cluster::prepare();
    machine.import("busybox", "busybox:1");
    assert!(!Path::new("/run/hythe").join(crate::lifecycle::instance_name(&machine)).exists(), "images need none");
    let context = machine.scratch().join("context");
    fs::create_dir(&context).unwrap();
    fs::write(context.join("Dockerfile"), DOCKERFILE).unwrap();
    fs::write(machine.scratch().join("key"), "hidden").unwrap();
    let context = context.to_str().unwrap().to_owned();
    (machine, context)
}

/// Builds and returns the image's ID and what was said.
fn build(machine: &Cluster, arguments: &[&str], context: &str) -> (String, String) {
    let key = format!("id=key,src={}", machine.scratch().join("key").display());
    let id_file = machine.scratch().join("id");
    let fixed = ["build", "--secret", &key, "--iidfile", id_file.to_str().unwrap()];
    let output = machine.try_hythe(&[&fixed[..], arguments, &[context]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    // No daemon runs, so nothing of the build is left beside its data.
    let run = Path::new("/run/hythe").join(crate::lifecycle::instance_name(machine));
    assert!(!run.exists(), "{:?}", fs::read_dir(&run).map(|entries| entries.flatten().collect::<Vec<_>>()));
    (fs::read_to_string(id_file).unwrap(), text(&output.stderr))
}

fn names(archive: &Path) -> Vec<String> {
    let output = std::process::Command::new("tar").arg("-tf").arg(archive).output().unwrap();
    text(&output.stdout).lines().map(|name| name.trim_start_matches("./").to_owned()).collect()
}

#[test]
fn secrets_stay_out_and_results_go_where_they_are_wanted() {
    let (machine, context) = machine();
    let at = |name: &str| machine.scratch().join(name);
    let option = |kind: &str, name: &str| format!("type={kind},dest={}", at(name).display());
    build(&machine, &["-t", "app:1", "--build-arg", "FLAVOUR=sweet", "-o", &option("tar", "out.tar")], &context);
    let listed = names(&at("out.tar"));
    assert!(listed.iter().any(|name| name == "flavour") && listed.iter().any(|name| name == "tool"), "{listed:?}");
    build(&machine, &["--build-arg", "FLAVOUR=sweet", "-o", &option("local", "tree")], &context);
    assert_eq!(fs::read_to_string(at("tree/flavour")).unwrap(), "sweet\n");
    assert!(!at("tree/run/secrets/key").exists());
    let (id, _) = build(&machine, &["-t", "app:2", "-o", &option("oci", "out.oci")], &context);
    assert!(names(&at("out.oci")).contains(&format!("blobs/sha256/{}", id.trim_start_matches("sha256:"))));
    machine.hythe(&["image", "import", at("out.oci").to_str().unwrap(), "again:1"]);
    assert!(machine.hythe(&["image", "inspect", "again:1"]).contains(&id));
}

#[test]
fn a_cache_goes_to_another_machine_and_equal_input_gives_equal_images() {
    let ((one, context), (two, other)) = (machine(), machine());
    let cache = one.scratch().join("cache").display().to_string();
    let (first, _) = build(&one, &["--cache-to", &format!("type=local,dest={cache}")], &context);
    let (second, said) = build(&two, &["--cache-from", &format!("type=local,src={cache}")], &other);
    assert_eq!(second, first, "{said}");
    assert!(said.contains(", 4 cached,"), "{said}");
    let fixed = |machine: &Cluster, context: &str| {
        let mut command = machine.hythe_command();
        let key = format!("id=key,src={}", machine.scratch().join("key").display());
        command.env("SOURCE_DATE_EPOCH", "1700000000").args(["build", "-q", "--no-cache", "--secret", &key, context]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    assert_eq!(fixed(&one, &context), fixed(&two, &other));
}

#[test]
fn a_failed_step_is_shown_in_its_dockerfile() {
    let (machine, context) = machine();
    fs::write(Path::new(&context).join("Other"), "FROM busybox:1\n\nRUN exit 3\n").unwrap();
    let file = Path::new(&context).join("Other");
    let output = machine.try_hythe(&["build", "-f", file.to_str().unwrap(), &context]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("Other:3") && said.contains(">>> RUN exit 3"), "{said}");
    assert!(said.contains("error: The command '/bin/sh -c exit 3' returned a non-zero code: 3"), "{said}");
    let output = machine.try_hythe(&["build", "--platform", "linux/s390x", &context]);
    assert!(!output.status.success());
}
