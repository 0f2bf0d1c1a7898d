//! The image that `deploy/image` makes without an engine: well-formed, the same as the recipe's, and it runs.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::{
    deploy::{
        docker::{only, stages, words},
        output,
    },
    files::{TestDir, decompressed},
    prove,
};

struct Image(PathBuf);

impl Image {
    fn make(binary: &Path, to: PathBuf) -> Self {
        output(Command::new("deploy/image").arg(binary).arg(&to));
        Self(to)
    }

    fn json(&self, path: impl AsRef<Path>) -> Value {
        let path = self.0.join(path);
        let text = std::fs::read_to_string(&path);
        serde_json::from_str(&text.unwrap_or_else(|error| panic!("{}: {error}", path.display())))
            .unwrap()
    }

    /// The blob of a descriptor, which must have its size and digest.
    fn blob(&self, descriptor: &Value) -> PathBuf {
        let (kind, digest) = descriptor["digest"].as_str().unwrap().split_once(':').unwrap();
        let path = self.0.join("blobs").join(kind).join(digest);
        assert_eq!(path.metadata().unwrap().len(), descriptor["size"].as_u64().unwrap());
        let sum = output(Command::new("sha256sum").arg(&path));
        assert!(sum.starts_with(digest), "{sum}");
        path
    }

    fn manifest(&self) -> Value {
        let index = self.json("index.json");
        assert_eq!(index["manifests"].as_array().unwrap().len(), 1);
        assert_eq!(
            index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"],
            env!("CARGO_PKG_VERSION")
        );
        self.json(self.blob(&index["manifests"][0]))
    }
}

/// The binary without its symbols, which would only be packed and unpacked.
fn stripped(place: &TestDir) -> PathBuf {
    let binary = place.root().join("tidemill");
    output(Command::new("strip").arg("-o").arg(&binary).arg(env!("CARGO_BIN_EXE_tidemill")));
    binary
}

#[test]
fn the_image_is_well_formed_and_starts_as_the_recipes_does() {
    let place = TestDir::new();
    let binary = stripped(&place);
    let image = Image::make(&binary, place.root().join("image"));
    assert_eq!(image.json("oci-layout")["imageLayoutVersion"], "1.0.0");
    let manifest = image.manifest();
    let layer = image.blob(&manifest["layers"][0]);
    let config = image.json(image.blob(&manifest["config"]));
    let plain = format!("zcat <'{}' | sha256sum", layer.display());
    let plain = output(Command::new("sh").args(["-c", &plain]));
    let content = config["rootfs"]["diff_ids"][0].as_str().unwrap();
    assert_eq!(format!("sha256:{}", plain.split(' ').next().unwrap()), content);

    let stages = stages();
    let last = stages.last().unwrap();
    let started = &config["config"];
    assert_eq!(started["User"].as_str().unwrap(), only(last, "USER"));
    assert_eq!(started["StopSignal"].as_str().unwrap(), only(last, "STOPSIGNAL"));
    assert_eq!(
        started["ExposedPorts"].as_object().unwrap().keys().collect::<Vec<_>>(),
        [&format!("{}/tcp", only(last, "EXPOSE"))]
    );
    for (key, word) in [("Entrypoint", "ENTRYPOINT"), ("Cmd", "CMD")] {
        let of_recipe: Value = words(&only(last, word)).into();
        assert_eq!(started[key], of_recipe, "{word}");
    }

    let again = Image::make(&binary, place.root().join("again"));
    assert_eq!(again.json("index.json"), image.json("index.json"), "the same bytes again");
}

#[test]
fn the_image_runs_with_nothing_but_what_is_in_it() {
    if !rustix::process::geteuid().is_root() {
        return prove::skipped("the image", "only root can change into another root");
    }
    let place = TestDir::new();
    let image = Image::make(&stripped(&place), place.root().join("image"));
    let layer = image.blob(&image.manifest()["layers"][0]);
    let root = place.root().join("root");
    std::fs::create_dir(&root).unwrap();
    output(Command::new("tar").arg("-xzf").arg(layer).arg("--numeric-owner").arg("-C").arg(&root));
    let config = image.json(image.blob(&image.manifest()["config"]));
    let user = config["config"]["User"].as_str().unwrap();
    let file = root.join("in/a.log");
    std::fs::write(&file, "a line\n").unwrap();
    // A file of another user waits for a minute without changes.
    output(Command::new("chown").arg(user).arg(file));
    let mut command = Command::new("chroot");
    command.arg(format!("--userspec={user}")).arg(&root).arg("/usr/bin/tidemill");
    // As the image starts it, but to an end and without a port.
    let words: Vec<&str> = config["config"]["Cmd"]
        .as_array()
        .unwrap()
        .iter()
        .map(|word| word.as_str().unwrap())
        .collect();
    let port = words.iter().position(|word| *word == "--http").unwrap();
    command.args(&words[..port]).args(&words[port + 2..]).arg("--once");
    output(&mut command);
    assert_eq!(decompressed(&root.join("out/a.log.zst")), b"a line\n");
}
