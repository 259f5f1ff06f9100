//! A directory follows a repository.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use clap::Parser;
use git::{Remote, RemoteError, checkout};
use http::{Method, Request, StatusCode};
use http_ends::{Client, Names, Trust};
use serving::Serving;
use sidecars::git_sync::{Arguments, run};
use tokio::sync::mpsc;

use crate::git_server::{GitServer, git, listing};

const LONG: Duration = Duration::from_secs(30);

pub fn serving() -> Serving {
    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        flags: serving::Flags,
    }
    Serving::detached(Only::parse_from(["sidecar"]).flags)
}

fn arguments(told: &[&str]) -> Arguments {
    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        arguments: Arguments,
    }
    Cli::parse_from(["git-sync"].iter().chain(told)).arguments
}

fn remote(url: &str, login: Option<(&str, &str)>) -> Remote {
    let client = Client::new(Names::default(), Trust::System);
    let login = login.map(|(user, password)| (user.to_owned(), password.to_owned()));
    Remote::new(client, url, login, LONG).unwrap()
}

/// Text that packs as deltas, since it is nearly the same in several files.
fn similar(number: usize) -> String {
    (0..2000).map(|line| format!("line {line} of many {}\n", if line % 500 == number { number } else { 0 })).collect()
}

#[tokio::test]
async fn a_commit_is_checked_out_as_git_itself_does() {
    let server = GitServer::start(None).await;
    std::os::unix::fs::symlink("deep/er/file", server.path().join("link")).unwrap();
    let script = server.path().join("run.sh");
    std::fs::write(&script, "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let texts: Vec<String> = (0..5).map(similar).collect();
    let names: Vec<String> = (0..5).map(|number| format!("deep/er/similar-{number}")).collect();
    let mut files: Vec<(&str, &str)> =
        names.iter().zip(&texts).map(|(name, text)| (name.as_str(), text.as_str())).collect();
    files.extend([("deep/er/file", "content"), ("empty", ""), ("näme with spaces", "x")]);
    let commit = server.commit(&files);
    git(server.path(), &["repack", "-adq", "--depth=10"]);
    let told = git(server.path(), &["verify-pack", "-v", &pack_name(server.path())]);
    assert!(told.contains("chain length = "), "the pack has deltas:\n{told}");

    let target = tempfile::tempdir().unwrap();
    let remote = remote(&server.url(), None);
    let oid = remote.resolve("HEAD").await.unwrap();
    assert_eq!(oid.to_string(), commit);
    let mut pack = remote.fetch(&oid, target.path(), 1 << 30).await.unwrap();
    checkout(pack.as_mut(), &oid, &target.path().join("files")).unwrap();
    assert_eq!(listing(&target.path().join("files")), listing(server.path()));
}

#[tokio::test]
async fn a_repository_on_the_disk_is_read_as_it_lies_there() {
    let server = GitServer::start(None).await;
    let texts: Vec<String> = (0..5).map(similar).collect();
    let names: Vec<String> = (0..5).map(|number| format!("deep/similar-{number}")).collect();
    let files: Vec<(&str, &str)> =
        names.iter().zip(&texts).map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let first = server.commit(&files);
    git(server.path(), &["tag", "-a", "v1", "-m", "one"]);
    git(server.path(), &["tag", "-a", "of-a-tag", "-m", "two", "v1"]);
    git(server.path(), &["branch", "feature/x"]);
    let bare = tempfile::tempdir().unwrap();
    let url = |path: &Path| format!("file://{}", path.display());
    let check = async |url: &str, reference: &str, commit: &str| {
        let remote = remote(url, None);
        let oid = remote.resolve(reference).await.unwrap();
        assert_eq!(oid.to_string(), commit, "{url} {reference}");
        let target = tempfile::tempdir().unwrap();
        let mut objects = remote.fetch(&oid, target.path(), 1 << 30).await.unwrap();
        checkout(objects.as_mut(), &oid, &target.path().join("files")).unwrap();
        listing(&target.path().join("files"))
    };
    let own = listing(server.path());
    // Loose objects; then a pack with deltas and packed references; then a bare copy that borrows its objects.
    assert_eq!(check(&url(server.path()), "HEAD", &first).await, own);
    git(server.path(), &["gc", "-q", "--aggressive", "--prune=now"]);
    assert!(server.path().join(".git/packed-refs").exists());
    for reference in ["v1", "of-a-tag", "refs/tags/v1", "feature/x", "main", "HEAD", first.as_str()] {
        assert_eq!(check(&url(server.path()), reference, &first).await, own, "{reference}");
    }
    git(bare.path(), &["clone", "-q", "--bare", "--shared", server.path().to_str().unwrap(), "x y.git"]);
    let borrowed = format!("{}/x%20y.git/", url(bare.path()));
    assert_eq!(check(&borrowed, "main", &first).await, own);
    let second = server.commit(&[("new", "2")]);
    assert_eq!(
        check(&format!("file://localhost{}", server.path().display()), "main", &second).await.len(),
        own.len() + 1
    );
    for (url, reference) in [(url(server.path()), "nowhere"), (url(server.path()), "../config")] {
        assert!(matches!(remote(&url, None).resolve(reference).await, Err(RemoteError::NoReference(_))), "{reference}");
    }
    let nothing = remote(&url(&bare.path().join("none")), None).resolve("main").await;
    assert!(nothing.unwrap_err().to_string().contains("there is no repository"));
    // What has rotted is not shown.
    let pack = pack_name(server.path()).replace(".idx", ".pack");
    std::fs::set_permissions(&pack, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let mut bytes = std::fs::read(&pack).unwrap();
    let length = bytes.len();
    bytes[12..length - 20].iter_mut().step_by(7).for_each(|byte| *byte ^= 0x55);
    std::fs::write(&pack, bytes).unwrap();
    let oid = first.parse().unwrap();
    assert!(remote(&url(server.path()), None).fetch(&oid, bare.path(), 1 << 30).await.is_err());
}

fn pack_name(repository: &Path) -> String {
    let packs = std::fs::read_dir(repository.join(".git/objects/pack")).unwrap();
    let paths = packs.map(|entry| entry.unwrap().path());
    paths
        .into_iter()
        .find(|path| path.extension().is_some_and(|end| end == "idx"))
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn branches_tags_references_and_commits_are_found() {
    let server = GitServer::start(None).await;
    let first = server.commit(&[("a", "1")]);
    git(server.path(), &["tag", "-a", "v1", "-m", "one"]);
    git(server.path(), &["branch", "feature/x"]);
    let second = server.commit(&[("a", "2")]);
    let remote = remote(&server.url(), None);
    for (reference, commit) in [
        ("v1", &first),
        ("refs/tags/v1", &first),
        ("feature/x", &first),
        ("heads/main", &second),
        ("HEAD", &second),
        (first.as_str(), &first),
    ] {
        assert_eq!(&remote.resolve(reference).await.unwrap().to_string(), commit, "{reference}");
    }
    assert!(matches!(remote.resolve("v2").await, Err(RemoteError::NoReference(_))));
    let target = tempfile::tempdir().unwrap();
    let absent = "0123456789012345678901234567890123456789".parse().unwrap();
    let refused = remote.fetch(&absent, target.path(), 1 << 20).await.map(|_| ()).unwrap_err();
    assert!(refused.to_string().contains("not our ref"), "{refused}");
    assert!(std::fs::read_dir(target.path()).unwrap().next().is_none(), "nothing is left behind");
    let small = remote.fetch(&first.parse().unwrap(), target.path(), 10).await.map(|_| ());
    assert!(matches!(small, Err(RemoteError::TooLarge(10))));
}

#[tokio::test]
async fn a_server_that_wants_a_password_gets_it_and_says_no_without() {
    // `me:secret`
    let server = GitServer::start(Some("Basic bWU6c2VjcmV0")).await;
    let commit = server.commit(&[("a", "1")]);
    let refused = remote(&server.url(), None).resolve("main").await;
    assert!(matches!(refused, Err(RemoteError::Status(_, StatusCode::UNAUTHORIZED))));
    let told = remote(&server.url(), Some(("me", "secret"))).resolve("main").await.unwrap();
    assert_eq!(told.to_string(), commit);
    let url = server.url().replace("http://", "http://me:secret@");
    let in_url = remote(&url, None);
    assert_eq!(in_url.resolve("main").await.unwrap().to_string(), commit);
    assert!(!in_url.url().contains("secret"));
}

#[tokio::test]
async fn the_link_flips_to_each_new_commit_the_webhook_hears_and_old_files_go() {
    let server = GitServer::start(None).await;
    let first = server.commit(&[("index.html", "one")]);
    // A webhook that fails the first time it is asked for each commit.
    let (heard, mut hears) = mpsc::unbounded_channel();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hook = format!("http://{}/changed", listener.local_addr().unwrap());
    let mut last = String::new();
    let hooks = std::sync::Arc::new(parking_lot::Mutex::new(move |hash: &str| {
        let again = last == hash;
        last = hash.to_owned();
        if again { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR }
    }));
    let server_of_hook = tokio::spawn(http_ends::serve(listener, Default::default(), move |request, _| {
        let (heard, hooks) = (heard.clone(), hooks.clone());
        async move {
            let hash = request.headers()["gitsync-hash"].to_str().unwrap().to_owned();
            let status = hooks.lock()(&hash);
            if status == StatusCode::OK {
                heard.send(hash).unwrap();
            }
            http_ends::answer(status, "text/plain", "")
        }
    }));
    let root = tempfile::tempdir().unwrap();
    let touched = root.path().join("touched");
    let told = [
        "--repo",
        &server.url(),
        "--ref",
        "main",
        "--root",
        root.path().to_str().unwrap(),
        "--link",
        "current",
        "--period",
        "1h",
        "--webhook-url",
        &hook,
        "--webhook-backoff",
        "10ms",
        "--webhook-timeout",
        "20s",
        "--touch-file",
        touched.to_str().unwrap(),
    ];
    let serving = serving();
    let syncing = tokio::spawn(run(arguments(&told), serving.clone()));
    assert_eq!(tokio::time::timeout(LONG, hears.recv()).await.unwrap().unwrap(), first);
    let index = root.path().join("current/index.html");
    assert_eq!(std::fs::read_to_string(&index).unwrap(), "one");
    assert_eq!(std::fs::read_link(root.path().join("current")).unwrap(), Path::new(".worktrees").join(&first));
    assert!(touched.exists());

    let second = server.commit(&[("index.html", "two")]);
    let look = Request::builder().method(Method::POST).uri("/api/v1/sync").body(Bytes::new()).unwrap();
    assert_eq!(serving.admin().answer(look).await.status(), StatusCode::ACCEPTED);
    assert_eq!(tokio::time::timeout(LONG, hears.recv()).await.unwrap().unwrap(), second);
    assert_eq!(std::fs::read_to_string(&index).unwrap(), "two");
    assert!(!root.path().join(".worktrees").join(&first).exists(), "the old files are gone");
    assert!(serving.admin().encode().contains("hythe_git_sync_looks_total{result=\"success\"} 2"));
    serving.stopping().cancel();
    tokio::time::timeout(LONG, syncing).await.unwrap().unwrap().unwrap();
    server_of_hook.abort();

    // A further run finds the files there; a branch that is gone is an error that leaves them.
    let once = run(arguments(&[&told[..8], &["--one-time"]].concat()), crate::git_sync::serving()).await;
    once.unwrap();
    git(server.path(), &["checkout", "-q", "-b", "other"]);
    git(server.path(), &["branch", "-q", "-D", "main"]);
    let failed = run(arguments(&told[..8]), crate::git_sync::serving()).await;
    assert!(failed.unwrap_err().to_string().contains("main"));
    assert_eq!(std::fs::read_to_string(&index).unwrap(), "two");
}

#[tokio::test]
async fn a_command_runs_in_the_new_files() {
    let server = GitServer::start(None).await;
    let commit = server.commit(&[("greeting", "hello")]);
    let root = tempfile::tempdir().unwrap();
    let script = root.path().join("hook.sh");
    let seen = root.path().join("seen");
    std::fs::write(&script, format!("#!/bin/sh\necho $GITSYNC_HASH $(cat greeting) > {}\n", seen.display())).unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let told = [
        "--repo",
        &server.url(),
        "--root",
        root.path().to_str().unwrap(),
        "--one-time",
        "--exechook-command",
        script.to_str().unwrap(),
    ];
    run(arguments(&told), serving()).await.unwrap();
    assert_eq!(std::fs::read_to_string(seen).unwrap(), format!("{commit} hello\n"));
    assert!(root.path().join("app/greeting").exists(), "the link bears the repository's name");
}
