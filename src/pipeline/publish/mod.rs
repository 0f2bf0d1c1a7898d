//! publish: makes the names of outputs durable, and disposes of the sources after that. No other
//! code gives an output its name.

pub mod commit;

pub mod dispose;
