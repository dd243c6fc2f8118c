//! The folder that a file is in, whether or not either exists. It never looks at the disk.

use std::path::Path;

/// The current folder for a bare name.
pub(crate) fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::folder_of;

    #[test]
    fn a_bare_name_is_in_the_current_folder() {
        for (file, folder) in [("/data/db.sqlite", "/data"), ("db.sqlite", "."), ("a/b", "a"), ("/db", "/")] {
            assert_eq!(folder_of(Path::new(file)), Path::new(folder), "{file}");
        }
    }
}
