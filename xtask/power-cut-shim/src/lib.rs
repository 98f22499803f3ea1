//! What a process does to the files of one directory, noted in a log: `cargo xtask power-cut` loads this into the
//! server (`LD_PRELOAD`), kills it, and builds from the log what a disk could hold after a power cut.
//!
//! Each call is made, by the system call itself, and then noted, one at a time: a sync that a kill cuts off has not been.
//! The variable `POWER_CUT_DIRECTORY` names the directory, `POWER_CUT_LOG` the log. What is written by way of `mmap` is
//! not seen: of SQLite's files that is the `-shm`, which no start reads. Linux alone.

#![cfg(target_os = "linux")]

mod log;
mod paths;

use std::ffi::{c_char, c_int, c_long, c_void};

use libc::{iovec, mode_t, off_t, size_t, ssize_t};

use crate::log::{Kind, Watch, watch};
use crate::paths::absolute;

/// A system call of the same arguments, which sets `errno` as the C library's function does.
macro_rules! call {
    ($number:ident $(, $argument:expr)*) => {
        // SAFETY: the caller keeps the C library's contract, and the kernel checks the rest.
        unsafe { libc::syscall(libc::$number $(, $argument)*) }
    };
}

/// What the C library's function returns.
fn int(returned: c_long) -> c_int {
    returned as c_int
}

/// Opens, and notes a file that was not there before, or is emptied.
fn opened(directory: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    let open = || int(call!(SYS_openat, directory, path, flags, mode));
    // SAFETY: a path that is no C string could not be opened.
    let Some(path) = (unsafe { absolute(directory, path) }) else { return open() };
    watch(&path, |watch| {
        let was_there = watch.is_there(&path);
        let file = open();
        if file >= 0 {
            watch.opened(file, &path, !was_there, flags & libc::O_TRUNC != 0);
        }
        file
    })
    .unwrap_or_else(open)
}

/// Makes a call on names and notes it where it succeeds.
fn named(kind: Kind, paths: &[(c_int, *const c_char)], call: impl Fn() -> c_long) -> c_int {
    // SAFETY: as in `opened`.
    let paths: Option<Vec<_>> = paths.iter().map(|(directory, path)| unsafe { absolute(*directory, *path) }).collect();
    let Some(paths) = paths else { return int(call()) };
    let Some(last) = paths.last() else { return int(call()) };
    watch(last, |watch| {
        let returned = int(call());
        if returned == 0 {
            watch.named(kind, &paths);
        }
        returned
    })
    .unwrap_or_else(|| int(call()))
}

/// Makes a call that writes and notes what it has written.
///
/// # Safety
/// `pieces` are readable.
unsafe fn written(file: c_int, pieces: &[iovec], at: Option<off_t>, call: impl Fn() -> c_long) -> ssize_t {
    Watch::of(file, |watch| {
        let returned = call();
        if let Ok(count @ 1..) = usize::try_from(returned) {
            let mut octets = Vec::with_capacity(count);
            for piece in pieces {
                // SAFETY: the caller's, and the kernel has just read as much.
                let piece = unsafe { std::slice::from_raw_parts(piece.iov_base.cast::<u8>(), piece.iov_len) };
                octets.extend(piece.iter().take(count - octets.len()));
            }
            let at = at.unwrap_or_else(|| call!(SYS_lseek, file, 0, libc::SEEK_CUR) - returned);
            watch.written(file, at, &octets);
        }
        returned as ssize_t
    })
    .unwrap_or_else(|| call() as ssize_t)
}

fn truncated(file: c_int, length: off_t) -> c_int {
    let call = || int(call!(SYS_ftruncate, file, length));
    Watch::of(file, |watch| {
        let returned = call();
        if returned == 0 {
            watch.truncated(file, length);
        }
        returned
    })
    .unwrap_or_else(call)
}

fn synced(file: c_int, call: impl Fn() -> c_long) -> c_int {
    Watch::of(file, |watch| {
        let returned = int(call());
        if returned == 0 {
            watch.synced(file);
        }
        returned
    })
    .unwrap_or_else(|| int(call()))
}

/// Defines functions of the C library.
macro_rules! replaced {
    ($(fn $name:ident($($argument:ident: $kind:ty),*) -> $returned:ty $body:block)*) => { $(
        /// As in the C library, and noted.
        ///
        /// # Safety
        /// As in the C library.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($argument: $kind),*) -> $returned $body
    )* };
}

replaced! {
    fn open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int { opened(libc::AT_FDCWD, path, flags, mode) }
    fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int { opened(libc::AT_FDCWD, path, flags, mode) }
    fn openat(directory: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
        opened(directory, path, flags, mode)
    }
    fn openat64(directory: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
        opened(directory, path, flags, mode)
    }
    fn close(file: c_int) -> c_int {
        Watch::forget(file);
        int(call!(SYS_close, file))
    }

    fn write(file: c_int, octets: *const c_void, count: size_t) -> ssize_t {
        let piece = iovec { iov_base: octets.cast_mut(), iov_len: count };
        let call = || call!(SYS_write, file, octets, count);
        // SAFETY: the caller's buffer.
        unsafe { written(file, &[piece], None, call) }
    }
    fn writev(file: c_int, pieces: *const iovec, count: c_int) -> ssize_t {
        let call = || call!(SYS_writev, file, pieces, count);
        // SAFETY: the caller's array.
        let all = unsafe { std::slice::from_raw_parts(pieces, usize::try_from(count).unwrap_or(0)) };
        // SAFETY: the caller's buffers.
        unsafe { written(file, all, None, call) }
    }
    fn pwrite(file: c_int, octets: *const c_void, count: size_t, at: off_t) -> ssize_t {
        let piece = iovec { iov_base: octets.cast_mut(), iov_len: count };
        let call = || call!(SYS_pwrite64, file, octets, count, at);
        // SAFETY: the caller's buffer.
        unsafe { written(file, &[piece], Some(at), call) }
    }
    fn pwrite64(file: c_int, octets: *const c_void, count: size_t, at: off_t) -> ssize_t {
        // SAFETY: the same function.
        unsafe { pwrite(file, octets, count, at) }
    }

    fn ftruncate(file: c_int, length: off_t) -> c_int { truncated(file, length) }
    fn ftruncate64(file: c_int, length: off_t) -> c_int { truncated(file, length) }
    fn fsync(file: c_int) -> c_int { synced(file, || call!(SYS_fsync, file)) }
    fn fdatasync(file: c_int) -> c_int { synced(file, || call!(SYS_fdatasync, file)) }

    fn rename(from: *const c_char, to: *const c_char) -> c_int {
        const HERE: c_int = libc::AT_FDCWD;
        named(Kind::Rename, &[(HERE, from), (HERE, to)], || call!(SYS_renameat2, HERE, from, HERE, to, 0))
    }
    fn renameat(from_directory: c_int, from: *const c_char, to_directory: c_int, to: *const c_char) -> c_int {
        named(Kind::Rename, &[(from_directory, from), (to_directory, to)], || {
            call!(SYS_renameat2, from_directory, from, to_directory, to, 0)
        })
    }
    fn link(from: *const c_char, to: *const c_char) -> c_int {
        const HERE: c_int = libc::AT_FDCWD;
        named(Kind::Link, &[(HERE, from), (HERE, to)], || call!(SYS_linkat, HERE, from, HERE, to, 0))
    }
    fn unlink(path: *const c_char) -> c_int {
        named(Kind::Remove, &[(libc::AT_FDCWD, path)], || call!(SYS_unlinkat, libc::AT_FDCWD, path, 0))
    }
    fn unlinkat(directory: c_int, path: *const c_char, flags: c_int) -> c_int {
        named(Kind::Remove, &[(directory, path)], || call!(SYS_unlinkat, directory, path, flags))
    }
    fn rmdir(path: *const c_char) -> c_int {
        named(Kind::Remove, &[(libc::AT_FDCWD, path)], || {
            call!(SYS_unlinkat, libc::AT_FDCWD, path, libc::AT_REMOVEDIR)
        })
    }
    fn mkdir(path: *const c_char, mode: mode_t) -> c_int {
        named(Kind::MakeDirectory, &[(libc::AT_FDCWD, path)], || call!(SYS_mkdirat, libc::AT_FDCWD, path, mode))
    }
    fn mkdirat(directory: c_int, path: *const c_char, mode: mode_t) -> c_int {
        named(Kind::MakeDirectory, &[(directory, path)], || call!(SYS_mkdirat, directory, path, mode))
    }
}
