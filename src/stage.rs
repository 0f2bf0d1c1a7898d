//! The eight stages of the pipeline, as named in source files, spans, metrics and failpoints.

crate::policy::words! {
    /// A stage of the pipeline, in the order of the flow.
    #[derive(Default)]
    Stage {
        #[default]
        Discover = "discover",
        Settle = "settle",
        Claim = "claim",
        Read = "read",
        Transform = "transform",
        Write = "write",
        Commit = "commit",
        Dispose = "dispose",
    }
}
