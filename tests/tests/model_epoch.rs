//! Random model of what an epoch owns: dirty pages, evictions, epochs, the page map's delta and the reuse of blocks. No engine
//! code: the rules themselves are under test, and each wrong rule that once looked right must be caught.
//!
//! Checked after every step: the durable checkpoint can be read whole and none of its blocks is free; every slot that names a
//! block finds the page's newest version there; no two writes in flight share a block. At the end: no block is lost.
//! Pages of the page map itself are left out.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, BTreeSet};

type Page = u8;
type Block = u32;
type Version = u32;
type Epoch = u32;
type FrameId = u32;

/// What breaks the rules: where and how.
type Checked = Result<(), String>;

const BLOCKS: Block = 40;
const PAGES: Page = 5;

/// The rules that can be got wrong. `GOOD` is the design.
#[derive(Clone, Copy)]
struct Rules {
    /// A superseded block is free at once only if its image belongs to the current epoch; else wrongly, whenever the last
    /// durable checkpoint does not refer to it.
    free_by_epoch_of_image: bool,
    /// An image enters the delta of the epoch in which its frame became dirty; else wrongly, of the current one.
    delta_of_dirty_epoch: bool,
    /// An image is dropped only if its frame was superseded in its own epoch; else wrongly, whenever it is no longer current.
    keep_frozen_images: bool,
    /// The map is the last one plus the delta; else wrongly, what the page table says.
    map_from_delta: bool,
    /// A checkpoint waits for its writes in flight.
    wait_for_writes: bool,
    /// A checkpoint that can't finish hands its delta and its waiting blocks on.
    hand_on_when_aborted: bool,
}

const GOOD: Rules = Rules {
    free_by_epoch_of_image: true,
    delta_of_dirty_epoch: true,
    keep_frozen_images: true,
    map_from_delta: true,
    wait_for_writes: true,
    hand_on_when_aborted: true,
};

#[derive(Clone, Copy, Debug)]
struct Frame {
    page: Page,
    version: Version,
    /// The epoch in which it became dirty, while it is.
    dirty: Option<Epoch>,
    /// The block that a write in flight goes to.
    writing: Option<Block>,
    /// Whether the page changed again, elsewhere, in the epoch of this frame.
    superseded: bool,
    /// Where its bytes stand while it is clean.
    block: Option<Block>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Slot {
    Frame(FrameId),
    Block(Block),
}

struct Model {
    rng: ChaCha8Rng,
    rules: Rules,
    epoch: Epoch,
    free: BTreeSet<Block>,
    disk: BTreeMap<Block, (Page, Version)>,
    /// The epoch to which the image in a block belongs.
    epoch_of: BTreeMap<Block, Epoch>,
    slots: BTreeMap<Page, Slot>,
    /// The newest version of each page.
    truth: BTreeMap<Page, Version>,
    frames: BTreeMap<FrameId, Frame>,
    frames_made: FrameId,
    in_flight: Vec<(FrameId, Block)>,
    /// What each open epoch changes in the map: a block, or freed.
    delta: BTreeMap<Epoch, BTreeMap<Page, Option<Block>>>,
    /// The blocks that are free once the checkpoint of the epoch is durable.
    waiting: BTreeMap<Epoch, Vec<Block>>,
    durable_map: BTreeMap<Page, Block>,
    durable_truth: BTreeMap<Page, Version>,
    checkpoint: Option<(Epoch, BTreeMap<Page, Version>)>,
    newest: Version,
    trace: Vec<String>,
}

impl Model {
    fn new(rules: Rules, seed: u64) -> Model {
        Model {
            rng: ChaCha8Rng::seed_from_u64(seed),
            rules,
            epoch: 1,
            free: (0..BLOCKS).collect(),
            disk: BTreeMap::new(),
            epoch_of: BTreeMap::new(),
            slots: BTreeMap::new(),
            truth: BTreeMap::new(),
            frames: BTreeMap::new(),
            frames_made: 0,
            in_flight: Vec::new(),
            delta: BTreeMap::from([(1, BTreeMap::new())]),
            waiting: BTreeMap::from([(1, Vec::new())]),
            durable_map: BTreeMap::new(),
            durable_truth: BTreeMap::new(),
            checkpoint: None,
            newest: 0,
            trace: Vec::new(),
        }
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        if from.is_empty() { None } else { Some(from[self.rng.random_range(0..from.len())]) }
    }

    fn next_version(&mut self) -> Version {
        self.newest += 1;
        self.newest
    }

    fn add_frame(&mut self, frame: Frame) -> FrameId {
        self.frames_made += 1;
        self.frames.insert(self.frames_made, frame);
        self.slots.insert(frame.page, Slot::Frame(self.frames_made));
        self.frames_made
    }

    fn is_current(&self, id: FrameId) -> bool {
        self.slots.get(&self.frames[&id].page) == Some(&Slot::Frame(id))
    }

    fn wait_for_checkpoint(&mut self, block: Block) {
        self.waiting.entry(self.epoch).or_default().push(block);
    }

    /// `block` no longer holds the newest image of its page.
    fn release(&mut self, block: Block) {
        let free_now = if self.rules.free_by_epoch_of_image {
            self.epoch_of[&block] == self.epoch
        } else {
            !self.durable_map.values().any(|&b| b == block)
        };
        if free_now {
            self.free.insert(block);
        } else {
            self.wait_for_checkpoint(block);
        }
        self.trace.push(format!("   release block {block}, free now: {free_now}"));
    }

    fn load(&mut self, page: Page) -> Result<FrameId, String> {
        let block = match self.slots[&page] {
            Slot::Frame(id) => return Ok(id),
            Slot::Block(block) => block,
        };
        let version = self.truth[&page];
        if self.disk.get(&block) != Some(&(page, version)) {
            return Err(format!("page {page} read at block {block} gives {:?}, want {version}", self.disk.get(&block)));
        }
        Ok(self.add_frame(Frame { page, version, dirty: None, writing: None, superseded: false, block: Some(block) }))
    }

    fn modify(&mut self, page: Page) -> Checked {
        let id = self.load(page)?;
        let (version, epoch) = (self.next_version(), self.epoch);
        let mut frame = self.frames[&id];
        if frame.writing.is_some() || frame.dirty.is_some_and(|e| e < epoch) {
            frame.superseded |= frame.dirty == Some(epoch);
            self.add_frame(Frame { page, version, dirty: Some(epoch), writing: None, superseded: false, block: None });
            self.trace.push(format!("copy page {page} as version {version} in epoch {epoch}"));
        } else {
            if frame.dirty.is_none()
                && let Some(block) = frame.block.take()
            {
                self.release(block);
            }
            (frame.dirty, frame.version) = (Some(epoch), version);
            self.trace.push(format!("modify page {page} to version {version} in epoch {epoch}"));
        }
        self.frames.insert(id, frame);
        self.truth.insert(page, version);
        Ok(())
    }

    fn create(&mut self, page: Page) {
        let (version, epoch) = (self.next_version(), self.epoch);
        self.add_frame(Frame { page, version, dirty: Some(epoch), writing: None, superseded: false, block: None });
        self.truth.insert(page, version);
        self.trace.push(format!("new page {page}, version {version}, in epoch {epoch}"));
    }

    fn free_page(&mut self, page: Page) {
        self.trace.push(format!("free page {page} in epoch {}", self.epoch));
        let slot = self.slots.remove(&page).expect("picked from the slots");
        self.truth.remove(&page);
        match slot {
            Slot::Block(block) => self.release(block),
            Slot::Frame(id) => self.free_frame(id),
        }
        self.delta.entry(self.epoch).or_default().insert(page, None);
    }

    fn free_frame(&mut self, id: FrameId) {
        let frame = self.frames[&id];
        match (frame.dirty, frame.writing) {
            (Some(e), None) if e == self.epoch => drop(self.frames.remove(&id)),
            (Some(e), Some(_)) if e == self.epoch => {
                self.frames.insert(id, Frame { superseded: true, ..frame });
            }
            // Of an earlier epoch: stays for its checkpoint.
            (Some(_), _) => {}
            (None, _) => {
                frame.block.into_iter().for_each(|block| self.release(block));
                self.frames.remove(&id);
            }
        }
    }

    fn write(&mut self, id: FrameId) {
        let candidates: Vec<Block> = self.free.iter().copied().collect();
        let Some(block) = self.pick(&candidates) else { return };
        self.free.remove(&block);
        let frame = self.frames.get_mut(&id).expect("picked from the frames");
        frame.writing = Some(block);
        let epoch = frame.dirty.expect("only dirty frames are written");
        self.trace.push(format!("write page {} version {} of epoch {epoch} to block {block}", frame.page, frame.version));
        self.epoch_of.insert(block, epoch);
        self.in_flight.push((id, block));
    }

    fn complete(&mut self, nth: usize) {
        let (id, block) = self.in_flight.remove(nth);
        let (current, mut frame) = (self.is_current(id), self.frames[&id]);
        self.disk.insert(block, (frame.page, frame.version));
        self.trace.push(format!("   page {} version {} is in block {block}", frame.page, frame.version));
        if !current && (frame.superseded || !self.rules.keep_frozen_images) {
            self.free.insert(block);
            self.frames.remove(&id);
            return;
        }
        let dirty = frame.dirty.take().filter(|e| self.delta.contains_key(e));
        let epoch = if self.rules.delta_of_dirty_epoch { dirty.unwrap_or(self.epoch) } else { self.epoch };
        self.delta.entry(epoch).or_default().insert(frame.page, Some(block));
        frame.writing = None;
        if current {
            frame.block = Some(block);
            self.frames.insert(id, frame);
        } else {
            // A later epoch has an image of its own, or freed the page.
            self.frames.remove(&id);
            self.wait_for_checkpoint(block);
        }
    }

    fn evict(&mut self, id: FrameId) {
        let frame = self.frames.remove(&id).expect("picked from the frames");
        let block = frame.block.expect("a clean frame has a block");
        self.slots.insert(frame.page, Slot::Block(block));
        self.trace.push(format!("evict page {}, which is in block {block}", frame.page));
    }

    fn cut(&mut self) {
        self.trace.push(format!("CUT of epoch {}", self.epoch));
        self.checkpoint = Some((self.epoch, self.truth.clone()));
        self.epoch += 1;
        self.delta.insert(self.epoch, BTreeMap::new());
        self.waiting.insert(self.epoch, Vec::new());
    }

    /// The frames that the checkpoint under way must still write.
    fn pending(&self) -> Vec<FrameId> {
        let epoch = self.checkpoint.as_ref().map(|c| c.0);
        self.frames.iter().filter(|(_, f)| f.dirty.is_some() && f.dirty == epoch && !f.superseded).map(|(&id, _)| id).collect()
    }

    fn finish(&mut self) {
        let Some((epoch, truth)) = self.checkpoint.take() else { return };
        let changes = self.delta.remove(&epoch).unwrap_or_default();
        if self.rules.map_from_delta {
            for (page, block) in changes {
                match block {
                    Some(block) => self.durable_map.insert(page, block),
                    None => self.durable_map.remove(&page),
                };
            }
        } else {
            self.map_from_page_table(&changes);
        }
        self.durable_truth = truth;
        self.free.extend(self.waiting.remove(&epoch).unwrap_or_default());
        self.trace.push(format!("SUPERBLOCK of epoch {epoch}"));
    }

    fn map_from_page_table(&mut self, changes: &BTreeMap<Page, Option<Block>>) {
        let of_current = self.delta[&self.epoch].keys();
        let pages: BTreeSet<Page> = changes.keys().chain(of_current).copied().collect();
        for page in pages {
            let in_delta = changes.get(&page).copied().flatten();
            let block = match self.slots.get(&page) {
                None => {
                    self.durable_map.remove(&page);
                    continue;
                }
                Some(Slot::Block(block)) => Some(*block),
                Some(Slot::Frame(id)) => self.frames[id].block.or(in_delta),
            };
            if let Some(block) = block {
                self.durable_map.insert(page, block);
            }
        }
    }

    fn abort(&mut self) {
        let Some((epoch, _)) = self.checkpoint.take() else { return };
        self.trace.push(format!("ABORT of epoch {epoch}"));
        let old = self.delta.remove(&epoch).unwrap_or_default();
        let blocks = self.waiting.remove(&epoch).unwrap_or_default();
        if !self.rules.hand_on_when_aborted {
            return;
        }
        let delta = self.delta.entry(self.epoch).or_default();
        for (page, change) in old {
            delta.entry(page).or_insert(change);
        }
        self.waiting.entry(self.epoch).or_default().extend(blocks);
        let frozen: Vec<FrameId> = self.frames.iter().filter(|(_, f)| f.dirty == Some(epoch)).map(|(&id, _)| id).collect();
        for id in frozen {
            self.hand_on(id);
        }
    }

    fn hand_on(&mut self, id: FrameId) {
        let (current, epoch) = (self.is_current(id), self.epoch);
        let frame = self.frames.get_mut(&id).expect("listed by the caller");
        if let Some(block) = frame.writing {
            self.epoch_of.insert(block, epoch);
        }
        if current {
            frame.dirty = Some(epoch);
        } else if frame.writing.is_some() {
            frame.superseded = true;
        } else {
            self.frames.remove(&id);
        }
    }

    fn check(&self) -> Checked {
        for (page, block) in &self.durable_map {
            let (found, want) = (self.disk.get(block), self.durable_truth.get(page).map(|&v| (*page, v)));
            if found != want.as_ref() {
                return Err(format!("durable checkpoint: page {page} at block {block} holds {found:?}, want {want:?}"));
            }
            if self.free.contains(block) {
                return Err(format!("block {block} of the durable checkpoint is free"));
            }
        }
        if let Some(page) = self.durable_truth.keys().find(|p| !self.durable_map.contains_key(p)) {
            return Err(format!("the durable checkpoint lacks page {page}"));
        }
        for (&page, slot) in &self.slots {
            let (block, version) = match slot {
                Slot::Block(block) => (*block, self.truth[&page]),
                Slot::Frame(id) => match self.frames[id] {
                    Frame { dirty: None, block: Some(block), version, .. } => (block, version),
                    _ => continue,
                },
            };
            if self.disk.get(&block) != Some(&(page, version)) {
                return Err(format!("page {page}: block {block} holds {:?}, want {version}", self.disk.get(&block)));
            }
        }
        let targets: BTreeSet<Block> = self.in_flight.iter().map(|&(_, block)| block).collect();
        if targets.len() < self.in_flight.len() { Err("two writes in flight to one block".into()) } else { Ok(()) }
    }

    fn step(&mut self) -> Checked {
        let pages: Vec<Page> = self.slots.keys().copied().collect();
        match self.rng.random_range(0..100) {
            0..12 => {
                let absent: Vec<Page> = (0..PAGES).filter(|p| !self.slots.contains_key(p)).collect();
                if let Some(page) = self.pick(&absent) {
                    self.create(page);
                }
            }
            12..40 => self.pick(&pages).map_or(Ok(()), |page| self.modify(page))?,
            40..46 if !pages.is_empty() => {
                let page = pages[self.rng.random_range(0..pages.len())];
                self.free_page(page);
            }
            46..62 => {
                let can = |(&id, f): (&FrameId, &Frame)| {
                    (f.dirty.is_some() && f.writing.is_none() && !f.superseded && self.is_current(id)).then_some(id)
                };
                let dirty: Vec<FrameId> = self.frames.iter().filter_map(can).collect();
                if let Some(id) = self.pick(&dirty) {
                    self.write(id);
                }
            }
            62..74 if !self.in_flight.is_empty() => {
                let nth = self.rng.random_range(0..self.in_flight.len());
                self.complete(nth);
            }
            74..82 => {
                let can = |(&id, f): (&FrameId, &Frame)| (f.dirty.is_none() && self.is_current(id)).then_some(id);
                let clean: Vec<FrameId> = self.frames.iter().filter_map(can).collect();
                if let Some(id) = self.pick(&clean) {
                    self.evict(id);
                }
            }
            82..88 if self.checkpoint.is_none() => self.cut(),
            88.. if self.checkpoint.is_some() => self.advance_checkpoint(),
            _ => {}
        }
        self.check()
    }

    fn advance_checkpoint(&mut self) {
        let (writing, to_write): (Vec<_>, Vec<_>) = self.pending().into_iter().partition(|id| self.frames[id].writing.is_some());
        if let Some(id) = self.pick(&to_write) {
            self.write(id);
        } else if writing.is_empty() || !self.rules.wait_for_writes {
            self.finish();
        } else if self.rng.random_bool(0.15) {
            self.abort();
        }
    }

    /// Comes to rest and looks for blocks that nothing refers to and that are not free.
    fn check_for_leaks(&mut self) -> Checked {
        for _ in 0..3 {
            while !self.in_flight.is_empty() {
                self.complete(0);
            }
            if self.checkpoint.is_none() {
                self.cut();
            }
            for id in self.pending() {
                self.write(id);
            }
            while !self.in_flight.is_empty() {
                self.complete(0);
            }
            self.check()?;
            if !self.pending().is_empty() {
                // The disk is too full for this checkpoint.
                return Ok(());
            }
            self.finish();
            self.check()?;
        }
        let mut free = self.free.clone();
        free.extend(self.durable_map.values());
        if free.len() < BLOCKS as usize { Err("a block is neither free nor used".into()) } else { Ok(()) }
    }
}

/// One history; on a violation what it is and what led to it.
fn history(rules: Rules, seed: u64) -> Result<(), (String, Vec<String>)> {
    let mut model = Model::new(rules, seed);
    let result = (0..60).try_for_each(|_| model.step()).and_then(|()| model.check_for_leaks());
    result.map_err(|what| (what, model.trace))
}

#[test]
fn the_rules_hold() {
    for seed in 0..20_000 {
        if let Err((what, trace)) = history(GOOD, seed) {
            let tail = &trace[trace.len().saturating_sub(20)..];
            panic!("seed {seed}: {what}\n{}", tail.join("\n"));
        }
    }
}

#[test]
fn each_wrong_rule_is_caught() {
    let wrong = [
        ("a block is kept only if the last durable checkpoint refers to it", Rules { free_by_epoch_of_image: false, ..GOOD }),
        ("an image is recorded in the current epoch", Rules { delta_of_dirty_epoch: false, ..GOOD }),
        ("an image of a frame that is no longer current is dropped", Rules { keep_frozen_images: false, ..GOOD }),
        ("the map is made from the page table", Rules { map_from_delta: false, ..GOOD }),
        ("a checkpoint does not wait for its writes", Rules { wait_for_writes: false, ..GOOD }),
        ("an aborted checkpoint drops its delta", Rules { hand_on_when_aborted: false, ..GOOD }),
    ];
    for (what, rules) in wrong {
        assert!((0..2000).any(|seed| history(rules, seed).is_err()), "not caught: {what}");
    }
}
