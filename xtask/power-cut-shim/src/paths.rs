//! Paths as the caller gave them, made absolute.

use std::ffi::{CStr, OsStr, c_char, c_int};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// The path that a call means: relative ones begin at `directory`, or at the working directory.
///
/// # Safety
/// `path` is null or a C string.
pub(crate) unsafe fn absolute(directory: c_int, path: *const c_char) -> Option<PathBuf> {
    if path.is_null() {
        return None;
    }
    // SAFETY: the caller's promise.
    let path = Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(path) }.to_bytes()));
    if path.is_absolute() {
        return Some(path.to_owned());
    }
    let base = if directory == libc::AT_FDCWD {
        std::env::current_dir()
    } else {
        std::fs::read_link(format!("/proc/self/fd/{directory}"))
    };
    base.ok().map(|base| base.join(path))
}
