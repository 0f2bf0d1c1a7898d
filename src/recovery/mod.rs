//! What the last run left is finished before the intake opens.
