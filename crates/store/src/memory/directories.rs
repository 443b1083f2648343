//! How many keys lie beneath each directory, so that the first page of a list says what follows without a look at it.

use std::collections::HashMap;

/// Keys by each of their prefixes that end with `/`.
#[derive(Default)]
pub(crate) struct Directories(HashMap<Box<str>, u64>);

impl Directories {
    /// One key more. It must be new.
    pub fn add(&mut self, key: &str) {
        for directory in of(key) {
            match self.0.get_mut(directory) {
                Some(keys) => *keys += 1,
                None => drop(self.0.insert(directory.into(), 1)),
            }
        }
    }

    /// One key less. It must have been added.
    pub fn remove(&mut self, key: &str) {
        for directory in of(key) {
            match self.0.get_mut(directory) {
                Some(1) => drop(self.0.remove(directory)),
                Some(keys) => *keys -= 1,
                None => debug_assert!(false, "{key} was never there"),
            }
        }
    }

    /// How many keys begin with `prefix`; none if that is no directory.
    pub fn keys(&self, prefix: &str) -> Option<u64> {
        let known = self.0.get(prefix).copied();
        known.or_else(|| prefix.ends_with('/').then_some(0))
    }
}

impl<'a> FromIterator<&'a str> for Directories {
    fn from_iter<T: IntoIterator<Item = &'a str>>(keys: T) -> Self {
        let mut directories = Self::default();
        keys.into_iter().for_each(|key| directories.add(key));
        directories
    }
}

fn of(key: &str) -> impl Iterator<Item = &str> {
    key.match_indices('/').map(|(at, _)| &key[..=at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_counted_beneath_each_directory() {
        let keys = [
            "/pods/a/one",
            "/pods/a/two",
            "/pods/b/one",
            "/nodes/",
            "loose",
        ];
        let mut directories: Directories = keys.into_iter().collect();
        for (prefix, keys) in [
            ("/", Some(4)),
            ("/pods/", Some(3)),
            ("/pods/a/", Some(2)),
            ("/nodes/", Some(1)),
            ("/pods/c/", Some(0)),
            ("/pods", None),
            ("/pods/a/one", None),
            ("loose", None),
            ("", None),
        ] {
            assert_eq!(directories.keys(prefix), keys, "{prefix:?}");
        }
        for key in keys {
            directories.remove(key);
        }
        assert!(directories.0.is_empty(), "nothing is left of what is gone");
    }
}
