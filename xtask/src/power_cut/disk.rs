//! A disk with a cache that may be lost: what is durable, and what was done since each file's and each directory's last sync.
//!
//! As POSIX has it: a file's sync makes its octets durable and not its name; a directory's sync makes its names durable and
//! not the octets behind them. At a cut each change since is kept or lost for itself, in whatever mixture; a write that
//! is kept may be torn at 512 octets.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use fastrand::Rng;

use super::log::Record;
use crate::failure::{Context, Failure};

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// A directory of the server and everything in it.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    root: PathBuf,
    /// The first is the root.
    nodes: Vec<Node>,
    /// By the log's number: the node, and the name under which it was opened.
    open: HashMap<u64, (usize, PathBuf)>,
    /// A file or directory whose syncs count for nothing, by the end of its path.
    forgotten: Option<String>,
}

#[derive(Debug, Clone)]
enum Node {
    File { durable: Vec<u8>, since: Vec<Change> },
    Directory { durable: Names, current: Names, since: Vec<Naming> },
}

type Names = BTreeMap<OsString, usize>;

#[derive(Debug, Clone)]
enum Change {
    Write { at: usize, octets: Vec<u8> },
    Truncate { length: usize },
}

/// Names that come and go together.
#[derive(Debug, Clone, Default)]
struct Naming {
    gone: Option<OsString>,
    new: Option<(OsString, usize)>,
}

/// What cuts have left to chance, and what chance has taken.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) cuts: u64,
    pub(super) writes: u64,
    pub(super) dropped: u64,
    pub(super) torn: u64,
    pub(super) names: u64,
    pub(super) names_dropped: u64,
}

impl Node {
    fn directory() -> Self {
        Self::Directory { durable: Names::new(), current: Names::new(), since: Vec::new() }
    }
}

impl Naming {
    fn apply(&self, names: &mut Names) {
        if let Some(gone) = &self.gone {
            names.remove(gone);
        }
        if let Some((name, node)) = &self.new {
            names.insert(name.clone(), *node);
        }
    }
}

impl Change {
    fn apply(&self, octets: &mut Vec<u8>) {
        match self {
            Self::Truncate { length } => octets.resize(*length, 0),
            Self::Write { at, octets: written } => write(octets, *at, written),
        }
    }
}

fn write(octets: &mut Vec<u8>, at: usize, written: &[u8]) {
    let end = at + written.len();
    if octets.len() < end {
        octets.resize(end, 0);
    }
    if let Some(place) = octets.get_mut(at..end) {
        place.copy_from_slice(written);
    }
}

impl Disk {
    /// What lies in `root`, all of it durable.
    pub(super) fn read(root: &Path, forgotten: Option<&str>) -> Result<Self, Failure> {
        let mut disk = Self {
            root: root.to_owned(),
            nodes: vec![Node::directory()],
            open: HashMap::new(),
            forgotten: forgotten.map(str::to_owned),
        };
        if root.exists() {
            let names = disk.read_names(root)?;
            if let Some(node) = disk.nodes.first_mut() {
                *node = Node::Directory { current: names.clone(), durable: names, since: Vec::new() };
            }
        }
        Ok(disk)
    }

    fn read_names(&mut self, directory: &Path) -> Result<Names, Failure> {
        let reading = || format!("cannot read {}", directory.display());
        let mut names = Names::new();
        for entry in fs::read_dir(directory).context(reading)? {
            let path = entry.context(reading)?.path();
            let node = if path.is_dir() {
                let names = self.read_names(&path)?;
                Node::Directory { current: names.clone(), durable: names, since: Vec::new() }
            } else {
                Node::File { durable: fs::read(&path).context(reading)?, since: Vec::new() }
            };
            names.insert(path.file_name().unwrap_or_default().to_owned(), self.add(node));
        }
        Ok(names)
    }

    fn add(&mut self, node: Node) -> usize {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// Does what a process has done.
    pub(super) fn apply(&mut self, record: &Record) {
        match record {
            Record::Create { file, path } => {
                let node = self.add(Node::File { durable: Vec::new(), since: Vec::new() });
                self.open.insert(*file, (node, path.clone()));
                self.name(None, Some((path, node)));
            }
            Record::Open { file, path } => {
                if let Some(node) = self.find(path) {
                    self.open.insert(*file, (node, path.clone()));
                }
            }
            Record::Write { file, at, octets } => {
                self.change(*file, Change::Write { at: *at, octets: octets.clone() });
            }
            Record::Truncate { file, length } => self.change(*file, Change::Truncate { length: *length }),
            Record::Sync { file } => self.sync(*file),
            Record::Rename { from, to } => {
                if let Some(node) = self.find(from) {
                    self.name(Some(from), Some((to, node)));
                }
            }
            Record::Link { from, to } => {
                if let Some(node) = self.find(from) {
                    self.name(None, Some((to, node)));
                }
            }
            Record::Remove { path } => self.name(Some(path), None),
            Record::MakeDirectory { path } => {
                // The root is there from the beginning.
                if *path != self.root {
                    let node = self.add(Node::directory());
                    self.name(None, Some((path, node)));
                }
            }
        }
    }

    /// The node of this name now.
    fn find(&self, path: &Path) -> Option<usize> {
        path.strip_prefix(&self.root).ok()?.iter().try_fold(0, |node, name| match self.nodes.get(node)? {
            Node::Directory { current, .. } => current.get(name).copied(),
            Node::File { .. } => None,
        })
    }

    fn change(&mut self, file: u64, change: Change) {
        let node = self.open.get(&file).and_then(|(node, _)| self.nodes.get_mut(*node));
        if let Some(Node::File { since, .. }) = node {
            since.push(change);
        }
    }

    fn sync(&mut self, file: u64) {
        let Some((node, path)) = self.open.get(&file) else { return };
        if self.forgotten.as_deref().is_some_and(|it| path.to_string_lossy().ends_with(it)) {
            return;
        }
        match self.nodes.get_mut(*node) {
            Some(Node::File { durable, since }) => since.drain(..).for_each(|change| change.apply(durable)),
            Some(Node::Directory { durable, current, since }) => {
                since.clear();
                durable.clone_from(current);
            }
            None => {}
        }
    }

    /// Takes a name away and gives one, at once where both are in one directory.
    fn name(&mut self, gone: Option<&PathBuf>, new: Option<(&PathBuf, usize)>) {
        let name = |path: &PathBuf| path.file_name().map(OsStr::to_owned);
        let parent = |path: &PathBuf| path.parent().map(Path::to_owned);
        let (left, entered) = (gone.and_then(parent), new.and_then(|(path, _)| parent(path)));
        let gone = gone.and_then(name);
        let new = new.and_then(|(path, node)| Some((name(path)?, node)));
        if left == entered {
            self.rename(left, Naming { gone, new });
        } else {
            self.rename(left, Naming { gone, new: None });
            self.rename(entered, Naming { gone: None, new });
        }
    }

    fn rename(&mut self, directory: Option<PathBuf>, naming: Naming) {
        let node = directory.and_then(|it| self.find(&it)).and_then(|it| self.nodes.get_mut(it));
        if let Some(Node::Directory { current, since, .. }) = node {
            naming.apply(current);
            since.push(naming);
        }
    }

    /// Cuts the power: writes into the new directory `to` what the disk could hold.
    pub(super) fn cut(&self, to: &Path, random: &mut Rng, figures: &mut Figures) -> Result<(), Failure> {
        figures.cuts += 1;
        self.write(0, to, random, figures).context(|| format!("cannot write {}", to.display()))
    }

    fn write(&self, node: usize, to: &Path, random: &mut Rng, figures: &mut Figures) -> std::io::Result<()> {
        match self.nodes.get(node) {
            Some(Node::File { durable, since }) => {
                let mut octets = durable.clone();
                since.iter().for_each(|change| lose(change, &mut octets, random, figures));
                let mut file = fs::File::options();
                std::io::Write::write_all(&mut file.write(true).create_new(true).mode(0o600).open(to)?, &octets)
            }
            Some(Node::Directory { durable, since, .. }) => {
                let mut names = durable.clone();
                for naming in since {
                    figures.names += 1;
                    if random.bool() {
                        naming.apply(&mut names);
                    } else {
                        figures.names_dropped += 1;
                    }
                }
                fs::DirBuilder::new().mode(0o700).create(to)?;
                // SQLite makes it anew whatever it holds, and nobody sees what is written to it.
                let mut kept = names.iter().filter(|(name, _)| !name.to_string_lossy().ends_with("-shm"));
                kept.try_for_each(|(name, node)| self.write(*node, &to.join(name), random, figures))
            }
            None => Ok(()),
        }
    }
}

/// Applies as much of a change as chance leaves of it.
fn lose(change: &Change, octets: &mut Vec<u8>, random: &mut Rng, figures: &mut Figures) {
    figures.writes += 1;
    let Change::Write { at, octets: written } = change else {
        return if random.bool() { change.apply(octets) } else { figures.dropped += 1 };
    };
    let (mut kept, mut lost) = (0, 0);
    let is_torn = random.bool();
    let is_kept = random.bool();
    let mut rest = written.as_slice();
    let mut at = *at;
    while !rest.is_empty() {
        let (sector, after) = rest.split_at(rest.len().min(SECTOR - at % SECTOR));
        let keeps = if is_torn { random.bool() } else { is_kept };
        if keeps {
            write(octets, at, sector);
            kept += 1;
        } else {
            lost += 1;
        }
        (rest, at) = (after, at + sector.len());
    }
    match (kept, lost) {
        (0, _) => figures.dropped += 1,
        (_, 0) => {}
        _ => figures.torn += 1,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn disk(records: &[Record]) -> Disk {
        let mut disk = Disk::read(Path::new("/absent/data"), None).unwrap();
        records.iter().for_each(|it| disk.apply(it));
        disk
    }

    fn at(name: &str) -> PathBuf {
        Path::new("/absent/data").join(name)
    }

    /// Every outcome of many cuts: the files with what is in them.
    fn outcomes(disk: &Disk) -> BTreeSet<Vec<(String, Vec<u8>)>> {
        let mut random = Rng::with_seed(1);
        let cut = |_| {
            let directory = tempfile::tempdir().unwrap();
            let to = directory.path().join("data");
            disk.cut(&to, &mut random, &mut Figures::default()).unwrap();
            let mut files = Vec::new();
            let mut directories = vec![to.clone()];
            while let Some(directory) = directories.pop() {
                for path in fs::read_dir(directory).unwrap().map(|it| it.unwrap().path()) {
                    let name = path.strip_prefix(&to).unwrap().display().to_string();
                    if path.is_dir() {
                        directories.push(path);
                    } else {
                        files.push((name, fs::read(path).unwrap()));
                    }
                }
            }
            files.sort();
            files
        };
        (0..200).map(cut).collect()
    }

    fn file(name: &str, octets: &[u8]) -> (String, Vec<u8>) {
        (name.to_owned(), octets.to_vec())
    }

    fn create(file: u64, name: &str) -> Record {
        Record::Create { file, path: at(name) }
    }

    fn write_at(file: u64, at: usize, octets: &[u8]) -> Record {
        Record::Write { file, at, octets: octets.to_vec() }
    }

    const ROOT: u64 = 99;

    fn sync_root() -> [Record; 2] {
        [Record::Open { file: ROOT, path: "/absent/data".into() }, Record::Sync { file: ROOT }]
    }

    #[test]
    fn name_and_octets_become_durable_each_by_its_own_sync() {
        let made = [create(1, "a"), write_at(1, 0, b"one")];
        let nothing = vec![];
        let (empty, whole) = (vec![file("a", b"")], vec![file("a", b"one")]);
        assert_eq!(outcomes(&disk(&made)), BTreeSet::from([nothing.clone(), empty.clone(), whole.clone()]));
        let synced = [&made[..], &[Record::Sync { file: 1 }]].concat();
        assert_eq!(outcomes(&disk(&synced)), BTreeSet::from([nothing, whole.clone()]));
        let named = [&made[..], &sync_root()].concat();
        assert_eq!(outcomes(&disk(&named)), BTreeSet::from([empty, whole.clone()]));
        let both = [&synced[..], &sync_root()].concat();
        assert_eq!(outcomes(&disk(&both)), BTreeSet::from([whole]));
    }

    #[test]
    fn a_write_is_torn_between_sectors_and_nowhere_else() {
        let before = vec![b'.'; 1536];
        let durable = [&[create(1, "a"), write_at(1, 0, &before), Record::Sync { file: 1 }], &sync_root()[..]].concat();
        let torn = [&durable[..], &[write_at(1, 256, &[b'x'; 1024])]].concat();
        // It touches the end of the first sector, the second, and the beginning of the third.
        let expected: BTreeSet<_> = (0..8_u8)
            .map(|kept| {
                let mut octets = before.clone();
                for (bit, range) in [(1, 256..512), (2, 512..1024), (4, 1024..1280)] {
                    if kept & bit != 0 {
                        octets[range].fill(b'x');
                    }
                }
                vec![file("a", &octets)]
            })
            .collect();
        assert_eq!(outcomes(&disk(&torn)), expected);
        let cut_short = [&durable[..], &[Record::Truncate { file: 1, length: 2 }]].concat();
        assert_eq!(outcomes(&disk(&cut_short)), BTreeSet::from([vec![file("a", &before)], vec![file("a", b"..")]]));
    }

    #[test]
    fn a_renaming_happens_whole_or_not_at_all_and_a_forgotten_sync_not() {
        let made = [
            Record::MakeDirectory { path: at("new") },
            create(1, "new/key"),
            write_at(1, 0, b"secret"),
            Record::Sync { file: 1 },
            Record::Open { file: 2, path: at("new") },
            Record::Sync { file: 2 },
        ];
        let durable = [&made[..], &sync_root()].concat();
        let renamed = [&durable[..], &[Record::Rename { from: at("new"), to: at("keys") }]].concat();
        let (before, after) = (vec![file("new/key", b"secret")], vec![file("keys/key", b"secret")]);
        assert_eq!(outcomes(&disk(&renamed)), BTreeSet::from([before, after.clone()]));
        let removed = [&renamed[..], &sync_root(), &[Record::Remove { path: at("keys/key") }]].concat();
        assert_eq!(outcomes(&disk(&removed)), BTreeSet::from([vec![], after]));

        let mut forgetful = Disk::read(Path::new("/absent/data"), Some("/new")).unwrap();
        durable.iter().for_each(|it| forgetful.apply(it));
        assert!(outcomes(&forgetful).contains(&vec![]), "the name in `new` is not durable");
    }
}
