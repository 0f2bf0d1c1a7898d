//! Resolves the table `[age]`.

use std::{path::PathBuf, sync::Arc};

use super::{
    age_keys::AgeLocations,
    declare::{Entry, Located, LocatedText, Location},
    keys::{AgeEntries, AgeOptions, RawAge},
    load::Resolver,
    paths::resolved,
};
use crate::{
    display_path::display_path,
    error, patience,
    transforms::age::{AgeKeys, KeyFile, parse_recipient},
};

impl Resolver {
    /// Reads the recipients' file, too: one that is replaced later counts from the next reload on. The
    /// identities stay in their file.
    pub(super) fn age(
        &mut self,
        mut file: RawAge,
        options: &AgeOptions,
    ) -> (Arc<AgeKeys>, AgeLocations) {
        let AgeEntries { recipients, recipients_file, identity_file } = file.entries(options);
        let locations = AgeLocations {
            recipients: recipients.location(),
            recipients_file: recipients_file.location(),
            identity_file: identity_file.location(),
        };
        let keys = AgeKeys::new(
            self.recipients(recipients),
            self.key_file(recipients_file),
            self.key_file(identity_file),
        );
        let keys = Arc::new(keys);
        // A build without the feature reports the whole table.
        if let Some(path) = keys.recipients_file().filter(|_| cfg!(feature = "age")) {
            let reading = Arc::clone(&keys);
            let read = patience::within(path, move || reading.recipients().map(drop));
            if let Some(Err(error)) = read
                && !error.is_temporary()
            {
                self.problems.add(locations.recipients_file.as_ref(), error::chain(&error), None);
            }
        }
        (keys, locations)
    }

    fn recipients(&mut self, entry: Entry<Vec<LocatedText>>) -> Vec<String> {
        let texts = entry.written.map(|written| written.value).unwrap_or_default();
        let mut recipients = Vec::new();
        for LocatedText(text) in texts {
            if let Err(error) = parse_recipient(text.get_ref()) {
                let help = "a recipient is a public key of `age-keygen`, such as `age1…`";
                let at = Location::File(text.span());
                self.problems.add(Some(&at), error.to_string(), Some(help));
                continue;
            }
            recipients.push(text.into_inner());
        }
        recipients
    }

    /// The file, with the real path of its directory: it may itself be a link that is replaced.
    fn key_file(&mut self, entry: Entry<PathBuf>) -> Option<KeyFile> {
        let Located { value, at } = entry.written?;
        let absolute = self.absolute(&Located { value, at: at.clone() });
        let (Some(dir), Some(name)) = (absolute.parent(), absolute.file_name()) else {
            self.problems.add(Some(&at), "this is not the path of a file", None);
            return None;
        };
        let path = resolved(dir).join(name);
        if path.to_str().is_none() {
            let message = format!("the path {} is not UTF-8", display_path(&path));
            self.problems.add(Some(&at), message, None);
        }
        let looked = path.clone();
        let found = patience::within(&path, move || KeyFile::look(looked));
        Some(found.unwrap_or_else(|| KeyFile::unseen(path)))
    }
}
