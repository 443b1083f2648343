//! The files of examples/web-app, carried inside the program so that the demo needs no checkout.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Result;

macro_rules! example {
    ($name:literal) => {
        (
            $name,
            include_str!(concat!("../../../../examples/web-app/", $name)),
        )
    };
}

const FILES: [(&str, &str); 9] = [
    example!("Dockerfile"),
    example!(".dockerignore"),
    example!("index.html"),
    example!("start.sh"),
    example!("work.sh"),
    example!("deployment.yaml"),
    example!("service.yaml"),
    example!("hpa.yaml"),
    example!("hpa-quick.yaml"),
];

/// Writes them into a new directory.
pub fn write(directory: &Path) -> Result<()> {
    std::fs::create_dir_all(directory)?;
    for (name, text) in FILES {
        let path = directory.join(name);
        std::fs::write(&path, text)?;
        if name.ends_with(".sh") {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
        }
    }
    Ok(())
}
