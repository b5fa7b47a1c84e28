//! What cargo knows of this workspace: where it is, its packages and their features.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::command::Cargo;

#[derive(Debug)]
pub(crate) struct Workspace {
    /// The folder of the root manifest.
    pub(crate) root: PathBuf,
    /// Where cargo builds.
    pub(crate) target: PathBuf,
    pub(crate) packages: Vec<Package>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) features: Vec<String>,
}

impl Workspace {
    /// Asks `cargo metadata`.
    pub(crate) fn load() -> Result<Self, String> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let text = Cargo::new(here, "metadata --format-version 1 --no-deps").capture()?;
        Self::parse(&text).ok_or_else(|| "`cargo metadata` prints an unknown form".into())
    }

    fn parse(text: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        let packages = value["packages"].as_array()?;
        Some(Self {
            root: value["workspace_root"].as_str()?.into(),
            target: value["target_directory"].as_str()?.into(),
            packages: packages.iter().map(Package::parse).collect::<Option<_>>()?,
        })
    }

    /// A call of cargo at the root.
    pub(crate) fn cargo(&self, words: &str) -> Cargo {
        Cargo::new(&self.root, words)
    }
}

impl Package {
    fn parse(value: &Value) -> Option<Self> {
        Some(Self {
            name: value["name"].as_str()?.to_owned(),
            features: value["features"].as_object()?.keys().cloned().collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_packages_and_features() {
        let text = r#"{"packages":[{"name":"a","features":{"x":[],"default":["x"]}},
            {"name":"b","features":{}}],"workspace_root":"/w","target_directory":"/w/t"}"#;
        let workspace = Workspace::parse(text).unwrap();
        assert_eq!(workspace.root, Path::new("/w"));
        assert_eq!(workspace.target, Path::new("/w/t"));
        let [a, b] = workspace.packages.as_slice() else {
            panic!("two packages: {workspace:?}");
        };
        assert_eq!((a.name.as_str(), a.features.len()), ("a", 2));
        assert_eq!((b.name.as_str(), b.features.len()), ("b", 0));
        assert!(Workspace::parse("{}").is_none() && Workspace::parse("").is_none());
    }
}
