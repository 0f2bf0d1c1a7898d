//! The codecs of a chain of steps, driven synchronously.
