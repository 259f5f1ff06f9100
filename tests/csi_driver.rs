//! A small CSI driver: registration, identity-less node service, volumes that are directories bound into place.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, Ordering},
    },
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tokio::{net::UnixListener, runtime::Runtime};

pub const NAME: &str = "disks.example.com";

/// Runs until dropped; its sockets go with it.
pub struct Driver {
    state: Arc<State>,
    backing: PathBuf,
    sockets: [PathBuf; 2],
    _runtime: Runtime,
}

impl Driver {
    /// Registers with the agent whose directory that is; volumes are kept below `backing`.
    pub fn start(agent: &Path, backing: &Path) -> Self {
        let registry = agent.join("plugins_registry").join(format!("{NAME}-reg.sock"));
        let endpoint = agent.join("plugins").join(format!("{NAME}.sock"));
        let driver = Self {
            state: Arc::new(State { backing: backing.to_owned(), limit: 16.into(), ..State::default() }),
            backing: backing.to_owned(),
            sockets: [endpoint.clone(), registry.clone()],
            _runtime: Runtime::new().unwrap(),
        };
        for socket in [endpoint, registry] {
            let (state, endpoint) = (driver.state.clone(), driver.sockets[0].clone());
            let _inside = driver._runtime.enter();
            let listener = UnixListener::bind(socket).unwrap();
            driver._runtime.spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let (state, endpoint) = (state.clone(), endpoint.clone());
                    let service =
                        hyper::service::service_fn(move |request| serve(state.clone(), endpoint.clone(), request));
                    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
                }
            });
        }
        driver
    }

    /// Method names with the volume, and the code of those that failed (`NodeStageVolume vol-1 code=3`).
    pub fn calls(&self) -> Vec<String> {
        self.state.calls.lock().unwrap().clone()
    }

    /// The context of the last publishing.
    pub fn context(&self) -> BTreeMap<String, String> {
        self.state.context.lock().unwrap().clone()
    }

    /// How many volumes it says that it can have on the node.
    pub fn limit(&self, volumes: u8) {
        self.state.limit.store(volumes, Ordering::Relaxed);
    }

    /// From now on, a call such as `NodeStageVolume vol-1` fails with that code of gRPC; with 0 it does not.
    pub fn fail(&self, call: &str, code: u8) {
        self.state.failing.lock().unwrap().insert(call.to_owned(), code);
    }

    pub fn called(&self, method: &str) -> usize {
        self.calls().iter().filter(|call| call.starts_with(method)).count()
    }

    pub fn volume(&self, id: &str) -> PathBuf {
        self.backing.join(id)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        for socket in &self.sockets {
            let _ = fs::remove_file(socket);
        }
    }
}

#[derive(Default)]
struct State {
    calls: Mutex<Vec<String>>,
    context: Mutex<BTreeMap<String, String>>,
    failing: Mutex<BTreeMap<String, u8>>,
    limit: AtomicU8,
    backing: PathBuf,
}

type Body = StreamBody<futures::stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>>;

async fn serve(state: Arc<State>, endpoint: PathBuf, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
    let body = request.into_body().collect().await.map(|b| b.to_bytes()).unwrap_or_default();
    let fields = read(body.get(5..).unwrap_or_default());
    let answer = answer(&state, &endpoint, &method, &fields);
    let (code, message, bytes) = match answer {
        Ok(bytes) => (0, String::new(), bytes),
        Err((code, message)) => (code, message, Vec::new()),
    };
    let mut framed = vec![0];
    framed.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
    framed.extend(bytes);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from(u16::from(code)));
    trailers.insert("grpc-message", HeaderValue::from_str(&message).unwrap());
    let frames = vec![Ok(Frame::data(Bytes::from(framed))), Ok(Frame::trailers(trailers))];
    let response = Response::builder().header("content-type", "application/grpc");
    Ok(response.body(StreamBody::new(futures::stream::iter(frames))).unwrap())
}

/// INTERNAL, for what goes wrong by itself.
const INTERNAL: u8 = 13;

fn answer(state: &State, endpoint: &Path, method: &str, fields: &[(u32, Vec<u8>)]) -> Result<Vec<u8>, (u8, String)> {
    let volume = fields.iter().find(|(f, _)| *f == 1).map(|(_, v)| v.clone()).unwrap_or_default();
    let call = format!("{method} {}", String::from_utf8(volume).unwrap_or_default());
    let code = state.failing.lock().unwrap().get(&call).copied().unwrap_or_default();
    if code != 0 {
        state.calls.lock().unwrap().push(format!("{call} code={code}"));
        return Err((code, "fake error".to_owned()));
    }
    state.calls.lock().unwrap().push(call);
    work(state, endpoint, method, fields).map_err(|message| (INTERNAL, message))
}

fn work(state: &State, endpoint: &Path, method: &str, fields: &[(u32, Vec<u8>)]) -> Result<Vec<u8>, String> {
    let backing = &state.backing;
    let text = |field: u32| {
        let value = fields.iter().find(|(f, _)| *f == field).map(|(_, v)| v.clone()).unwrap_or_default();
        String::from_utf8(value).unwrap_or_default()
    };
    let volume = text(1);
    let bind = |from: &Path, to: &Path| {
        fs::create_dir_all(to).map_err(|e| e.to_string())?;
        // As the specification has it, asking again for what is done is fine.
        let table = fs::read_to_string("/proc/self/mountinfo").map_err(|e| e.to_string())?;
        if table.lines().any(|line| line.split(' ').nth(4).map(Path::new) == Some(to)) {
            return Ok(());
        }
        mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(|e| e.to_string())
    };
    let unmount = |path: String| {
        let _ = umount2(Path::new(&path), MntFlags::MNT_DETACH);
        let _ = fs::remove_dir(&path);
        let _ = fs::remove_file(path);
    };
    match method {
        "GetInfo" => {
            let mut out = put(1, b"CSIPlugin");
            out.extend(put(2, NAME.as_bytes()));
            out.extend(put(3, endpoint.to_string_lossy().as_bytes()));
            out.extend(put(4, b"1.0.0"));
            return Ok(out);
        }
        "NodeGetInfo" => {
            let entry = [put(1, b"disks.example.com/rack"), put(2, b"r7")].concat();
            return Ok([
                put(1, b"id-of-node"),
                vec![2 << 3, state.limit.load(Ordering::Relaxed)],
                put(3, &put(1, &entry)),
            ]
            .concat());
        }
        // STAGE_UNSTAGE_VOLUME, GET_VOLUME_STATS, EXPAND_VOLUME
        "NodeGetCapabilities" => {
            return Ok([1, 2, 3].map(|ability| put(1, &put(1, &[1 << 3, ability]))).concat());
        }
        "NodeStageVolume" | "NodePublishVolume" if is_block(fields, method) => {
            let (device, target) = (backing.join("device"), PathBuf::from(text(4)));
            if method == "NodePublishVolume" && !target.exists() {
                let device = fs::read_link(device).map_err(|e| e.to_string())?;
                fs::File::create(&target).map_err(|e| e.to_string())?;
                mount(Some(&device), &target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
                    .map_err(|e| e.to_string())?;
            }
        }
        "NodeExpandVolume" => {}
        // 70 of 100 bytes free, 9 of 10 inodes.
        "NodeGetVolumeStats" => {
            let usage =
                |[free, all, used, unit]: [u8; 4]| put(1, &[1 << 3, free, 2 << 3, all, 3 << 3, used, 4 << 3, unit]);
            return Ok([usage([70, 100, 30, 1]), usage([9, 10, 1, 2])].concat());
        }
        "NodeStageVolume" => {
            let directory = backing.join(&volume);
            if volume == "broken" {
                return Err("no such disk".to_owned());
            }
            fs::create_dir_all(&directory).map_err(|e| e.to_string())?;
            bind(&directory, Path::new(&text(3)))?;
        }
        "NodePublishVolume" => {
            let entries = fields.iter().filter(|(f, _)| *f == 8).map(|(_, v)| read(v));
            let pair = |entry: Vec<(u32, Vec<u8>)>| {
                let part = |f: u32| entry.iter().find(|(g, _)| *g == f).map(|(_, v)| v.clone()).unwrap_or_default();
                (String::from_utf8(part(1)).unwrap(), String::from_utf8(part(2)).unwrap())
            };
            *state.context.lock().unwrap() = entries.map(pair).collect();
            let (staging, target) = (text(3), text(4));
            if staging.is_empty() {
                let directory = backing.join(&volume);
                fs::create_dir_all(&directory).map_err(|e| e.to_string())?;
                bind(&directory, Path::new(&target))?;
            } else {
                bind(Path::new(&staging), Path::new(&target))?;
            }
        }
        "NodeUnpublishVolume" | "NodeUnstageVolume" => unmount(text(2)),
        "NotifyRegistrationStatus" => {}
        other => return Err(format!("{other} is not known")),
    }
    Ok(Vec::new())
}

/// Whether the capability that is asked for is a block device's.
fn is_block(fields: &[(u32, Vec<u8>)], method: &str) -> bool {
    let capability = if method == "NodeStageVolume" { 4 } else { 5 };
    fields.iter().any(|(f, v)| *f == capability && read(v).iter().any(|(f, _)| *f == 1))
}

/// A length-delimited field; nothing here is longer than 16,383 bytes.
fn put(field: u8, value: &[u8]) -> Vec<u8> {
    let mut out = vec![field << 3 | 2];
    match value.len() {
        short @ 0..128 => out.push(short as u8),
        long => out.extend([(long & 0x7f) as u8 | 0x80, (long >> 7) as u8]),
    }
    out.extend(value);
    out
}

/// The length-delimited fields of a message.
fn read(mut rest: &[u8]) -> Vec<(u32, Vec<u8>)> {
    let varint = |rest: &mut &[u8]| {
        let (mut value, mut shift) = (0u64, 0);
        loop {
            let byte = rest[0];
            *rest = &rest[1..];
            value |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return value;
            }
        }
    };
    let mut out = Vec::new();
    while !rest.is_empty() {
        let tag = varint(&mut rest);
        let value = varint(&mut rest);
        if tag & 7 == 2 {
            let (value, after) = rest.split_at(usize::try_from(value).unwrap());
            out.push((u32::try_from(tag >> 3).unwrap(), value.to_vec()));
            rest = after;
        }
    }
    out
}
