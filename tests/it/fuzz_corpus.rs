//! Replays what the fuzz targets found worth keeping: no entry may panic on any of it.

use std::path::Path;

#[path = "../../fuzz/entries.rs"]
mod entries;

#[test]
fn the_saved_corpus_is_taken_by_every_entry() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, entry) in entries::ALL {
        let folder = corpus.join(name);
        let files = std::fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut count = 0;
        for file in files {
            entry(&std::fs::read(file.unwrap().path()).unwrap());
            count += 1;
        }
        assert!(count > 3, "{name} has {count} inputs");
    }
}
