//! Inode numbers that do not outlive a mount, and data that moved to another disk: content decides.

use crate::harness::Tree;

const KILLED: i32 = -9;

/// Gives every temporary file of the output another inode, as a copy to a new disk does.
fn renumber(tree: &Tree) -> usize {
    let mut count = 0;
    for file in tree.files("out") {
        let path = tree.path("out").join(&file);
        let copy = path.with_extension("copy");
        std::fs::copy(&path, &copy).expect("copy");
        std::fs::rename(&copy, &path).expect("rename");
        count += 1;
    }
    count
}

#[test]
fn intents_are_completed_although_their_temps_have_other_inodes() {
    for on_success in ["keep", "delete", "archive"] {
        let tree = Tree::with(5, 1);
        let code = tree.start_with("commit::intended=return(kill)", on_success, &["--once"]).wait();
        assert_eq!(code, KILLED);
        assert!(renumber(&tree) > 0, "no temporary file was there");
        assert_eq!(tree.once(on_success), 0, "{}", tree.log());
        tree.assert_done(on_success);
    }
}
