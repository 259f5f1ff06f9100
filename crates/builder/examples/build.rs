//! Builds a directory's Dockerfile in a store of its own: `build DATA_DIR CONTEXT TAG [IMAGE_ARCHIVE NAME]…`, where the
//! archives are imported first. The least that an embedder needs.

use std::error::Error;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use builder::{BuildRequest, Builder, Context, Display};
use engine::content::Content;
use engine::{Engine, EngineConfig, ShimCommand};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args: Vec<std::ffi::OsString> = std::env::args_os().skip(1).collect();
    if args.first().is_some_and(|first| first == "shim") {
        engine::shim::main(args.split_off(1));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(&args))
}

async fn run(args: &[std::ffi::OsString]) -> Result<(), Box<dyn Error>> {
    let [data, context, tag, archives @ ..] = args else {
        return Err("build DATA_DIR CONTEXT TAG [IMAGE_ARCHIVE NAME]…".into());
    };
    let data = PathBuf::from(data);
    let engine = Engine::open(EngineConfig {
        data_dir: data.join("engine"),
        run_dir: data.join("run"),
        cgroup_root: "hythe-build-example".into(),
        shim: ShimCommand::current_exe(),
    })
    .await?;
    engine.adopt().await?;
    let content = Content::open(data.join("content"))?;
    for pair in archives.chunks(2) {
        let [archive, name] = pair else { return Err("an archive without a name".into()) };
        let name = name.to_string_lossy();
        if content.image(&name).is_err() {
            content.import(archive.as_ref(), Some(&name))?;
        }
    }
    let builder = Builder::open(engine.clone(), content, data.join("builder")).await?;
    let (begin, display) = (Instant::now(), Arc::new(Mutex::new(Display::new())));
    let shown = display.clone();
    let progress: builder::Progress = Arc::new(move |event| {
        if let Ok(mut display) = shown.lock() {
            print!("{}", display.render(&event, begin.elapsed()));
        }
    });
    let request = BuildRequest {
        context: Context::Directory(context.into()),
        tags: vec![tag.to_string_lossy().into_owned()],
        ..BuildRequest::default()
    };
    let result = builder.build(request, progress).await;
    engine.purge().await?;
    match result {
        Ok(_) => {
            if let Ok(display) = display.lock() {
                print!("{}", display.finish(begin.elapsed()));
            }
            Ok(())
        }
        Err(error) => {
            if let Some(excerpt) = &error.excerpt {
                eprintln!("{excerpt}");
            }
            Err(error.to_string().into())
        }
    }
}
