//! A block device whose content is a file.

use std::{
    fs::File,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

const LOOP_SET_FD: libc::c_ulong = 0x4c00;
const LOOP_CLR_FD: libc::c_ulong = 0x4c01;
const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4c82;

/// Given back when dropped.
pub struct LoopDevice {
    device: File,
    pub path: PathBuf,
}

impl LoopDevice {
    /// Over a file that is made with that many bytes.
    pub fn over(file: &Path, bytes: u64) -> Self {
        let backing = File::options().read(true).write(true).create(true).truncate(true).open(file).unwrap();
        backing.set_len(bytes).unwrap();
        let control = File::options().read(true).write(true).open("/dev/loop-control").unwrap();
        // Another test may take the same one in between.
        loop {
            // SAFETY: this request has no argument.
            let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
            assert!(number >= 0, "{}", std::io::Error::last_os_error());
            let path = PathBuf::from(format!("/dev/loop{number}"));
            let device = File::options().read(true).write(true).open(&path).unwrap();
            // SAFETY: the argument of this request is a descriptor, which is open.
            if unsafe { libc::ioctl(device.as_raw_fd(), LOOP_SET_FD, backing.as_raw_fd()) } == 0 {
                return Self { device, path };
            }
            let error = std::io::Error::last_os_error();
            assert_eq!(error.raw_os_error(), Some(libc::EBUSY), "{error}");
        }
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        // SAFETY: this request has no argument.
        unsafe { libc::ioctl(self.device.as_raw_fd(), LOOP_CLR_FD) };
    }
}
