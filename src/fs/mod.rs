//! The program's own file-system calls: every open, rename, unlink and sync goes through here.
