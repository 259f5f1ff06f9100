//! Block volumes: a file of the claim's size, behind a loop device for as long as a pod of this node has it.
//!
//! Who has it stands on disk, as the kubelet keeps it (`volumeDevices/VOLUME/UID`), and which device it is the kernel
//! knows: an agent that comes later finds both.

use std::{
    fs::{self, File, Permissions},
    io,
    os::{fd::AsRawFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    sys::stat::{Mode, SFlag, makedev, mknod},
};
use parking_lot::Mutex;

/// Held while a device is looked for, bound or given back: two devices of one file would not see each other's writes.
static TURN: Mutex<()> = Mutex::new(());

const CONTROL: &str = "/dev/loop-control";
const HOLDERS: &str = "plugins/kubernetes.io/local-volume/volumeDevices";
/// What the size of a file is a multiple of, so that no byte of it is out of the device's reach.
const SECTOR: u64 = 512;
/// The major number of loop devices (`Documentation/admin-guide/devices.txt`).
const MAJOR: u64 = 7;

// include/uapi/linux/loop.h
const LOOP_SET_FD: libc::c_ulong = 0x4c00;
const LOOP_CLR_FD: libc::c_ulong = 0x4c01;
const LOOP_SET_CAPACITY: libc::c_ulong = 0x4c07;
const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4c82;

/// Where the volumes of the agent whose directory that is lie.
pub fn volumes(data_dir: &Path) -> PathBuf {
    data_dir.join("volumes")
}

/// Makes the file of a volume, or makes it larger; never smaller. It takes room on disk as it is written to.
pub fn make(file: &Path, bytes: u64) -> io::Result<()> {
    // Without loop devices nobody could use it.
    open(Path::new(CONTROL)).map_err(|e| io::Error::other(format!("volumeMode Block needs loop devices: {e}")))?;
    let content = File::options().write(true).create(true).truncate(false).open(file)?;
    content.set_permissions(Permissions::from_mode(0o600))?;
    let size = bytes.next_multiple_of(SECTOR);
    if content.metadata()?.len() < size {
        content.set_len(size)?;
    }
    let _turn = TURN.lock();
    match bound_to(file)? {
        Some(device) => request(&open(&device)?, LOOP_SET_CAPACITY, 0).map(drop),
        None => Ok(()),
    }
}

/// The device of a volume's file for a pod; the one that there is, if another pod has it.
pub fn attach(data_dir: &Path, volume: &str, file: &Path, uid: &str) -> io::Result<PathBuf> {
    let _turn = TURN.lock();
    let holders = data_dir.join(HOLDERS).join(volume);
    fs::create_dir_all(&holders)?;
    fs::write(holders.join(uid), file.as_os_str().as_encoded_bytes())?;
    match bound_to(file)? {
        Some(device) => Ok(device),
        None => bind(file),
    }
}

/// A pod has gone: devices that no other pod has are given back. May be called again.
pub fn release(data_dir: &Path, uid: &str) -> io::Result<()> {
    let Ok(volumes) = fs::read_dir(data_dir.join(HOLDERS)) else { return Ok(()) };
    let _turn = TURN.lock();
    for volume in volumes.flatten() {
        let holders = volume.path();
        if !holders.join(uid).exists() {
            continue;
        }
        // The record goes last, so that what fails here is tried again.
        let others = fs::read_dir(&holders)?.flatten().any(|holder| holder.file_name() != uid);
        if !others {
            detach(&self::volumes(data_dir).join(volume.file_name()))?;
        }
        fs::remove_file(holders.join(uid))?;
        if !others {
            fs::remove_dir(&holders)?;
        }
    }
    Ok(())
}

/// The devices of all volumes are given back: no container is left.
pub fn release_all(data_dir: &Path) -> io::Result<()> {
    let _turn = TURN.lock();
    let root = match fs::canonicalize(volumes(data_dir)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let of_ours = loop_devices().into_iter().filter(|(_, file)| file.starts_with(&root));
    of_ours.into_iter().try_for_each(|(device, _)| clear(&device))
}

/// A volume is about to be removed.
pub fn detach(file: &Path) -> io::Result<()> {
    bound_to(file)?.map_or(Ok(()), |device| clear(&device))
}

fn clear(device: &Path) -> io::Result<()> {
    match request(&open(device)?, LOOP_CLR_FD, 0) {
        // Another has done it.
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(()),
        other => other.map(drop),
    }
}

/// The device that shows the file, if there is one.
fn bound_to(file: &Path) -> io::Result<Option<PathBuf>> {
    let file = match fs::canonicalize(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    Ok(loop_devices().into_iter().find(|(_, shown)| *shown == file).map(|(device, _)| device))
}

/// All devices that are bound to a file, with it.
fn loop_devices() -> Vec<(PathBuf, PathBuf)> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
        // Only there while it is bound.
        let Ok(shown) = fs::read_to_string(entry.path().join("loop/backing_file")) else { continue };
        let shown = shown.trim_end_matches('\n').trim_end_matches(" (deleted)");
        found.push((Path::new("/dev").join(entry.file_name()), PathBuf::from(shown)));
    }
    found
}

fn bind(file: &Path) -> io::Result<PathBuf> {
    let content = open(&fs::canonicalize(file)?)?;
    let control = open(Path::new(CONTROL))?;
    loop {
        let number = request(&control, LOOP_CTL_GET_FREE, 0)?;
        let path = PathBuf::from(format!("/dev/loop{number}"));
        // Where no devtmpfs makes the nodes.
        if !path.exists() {
            let device = makedev(MAJOR, u64::try_from(number).unwrap_or_default());
            match mknod(&path, SFlag::S_IFBLK, Mode::from_bits_truncate(0o600), device) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        match request(&open(&path)?, LOOP_SET_FD, content.as_raw_fd()) {
            Ok(_) => return Ok(path),
            // Someone else was faster: another one is free.
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Whether a path is a volume's file rather than its directory.
pub fn is_file(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_file())
}

fn open(path: &Path) -> io::Result<File> {
    let opened = File::options().read(true).write(true).open(path);
    opened.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

fn request(file: &File, request: libc::c_ulong, argument: libc::c_int) -> io::Result<libc::c_int> {
    // SAFETY: the requests above take a descriptor, which the caller holds open, or no argument; no memory is touched.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), request, argument) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Seek, SeekFrom, Write},
        os::unix::fs::{FileTypeExt, MetadataExt},
    };

    use super::*;

    #[test]
    fn a_file_is_one_device_for_all_pods_that_grows_and_goes_with_the_last_of_them() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().canonicalize().expect("a path");
        let file = volumes(&root).join("v");
        fs::create_dir(volumes(&root)).expect("made");
        make(&file, 1_000_000).expect("made");
        assert_eq!((fs::metadata(&file).expect("there").len(), is_file(&file)), (1_000_448, true), "whole sectors");
        let device = attach(&root, "v", &file, "one").expect("attached");
        assert_eq!(attach(&root, "v", &file, "two").expect("shared"), device);
        assert!(fs::metadata(&device).expect("a node").file_type().is_block_device());
        let size = || File::open(&device).and_then(|mut d| d.seek(SeekFrom::End(0))).expect("a size");
        assert_eq!(size(), 1_000_448);
        make(&file, 2 << 20).expect("grown");
        make(&file, 1 << 20).expect("never smaller");
        assert_eq!(size(), 2 << 20);
        let mut open = File::options().write(true).open(&device).expect("opened");
        open.write_all(b"kept").expect("written");
        open.sync_all().expect("synced");
        drop(open);
        release(&root, "one").expect("released");
        assert_eq!(bound_to(&file).expect("known"), Some(device.clone()), "the other pod has it");
        release(&root, "two").expect("released");
        release(&root, "two").expect("again");
        assert_eq!(bound_to(&file).expect("known"), None);
        let mut head = [0; 4];
        File::open(&file).and_then(|mut f| f.read_exact(&mut head)).expect("read");
        assert_eq!(&head, b"kept");
        assert!(fs::metadata(&file).expect("there").blocks() * 512 < 1 << 20, "it takes what was written");
        let device = attach(&root, "v", &file, "three").expect("attached");
        release_all(&root).expect("released");
        assert!(!loop_devices().iter().any(|(d, f)| *d == device && f.starts_with(&root)));
        assert_eq!(fs::read_dir(root.join(HOLDERS)).expect("there").count(), 1, "as a pod that comes back finds it");
    }
}
