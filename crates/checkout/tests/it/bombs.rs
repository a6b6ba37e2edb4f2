//! Results that are small and take all of a host's memory where they are looked at without care.

use checkout::{
    checkouts::{Checkout, Limits},
    error::{CheckoutError, Fault},
    git::CommitId,
    sandboxed::Claim,
};
use launcher::tool::Tool;
use testing::{
    programs::search_path,
    repository::{ScratchRepository, git_in},
};

use crate::{
    bench::Bench,
    sandboxed::{boxed, leave, result_of, user},
};

/// Copies of 258 bytes that the object of a bomb consists of.
const COPIES: u64 = 1_600_000;
/// Its bytes, 394 MiB.
const LARGE: u64 = 1 + 258 * COPIES;
/// Memory in which they do not fit, in bytes.
const TIGHT: u64 = 256 << 20;

async fn refused(bench: &Bench, checkout: &Checkout, commit: &CommitId, pack: &str) -> String {
    let claim = Claim { commit, pack };
    let error = bench.checkouts.bring_claimed(checkout, claim).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Result, "{error:?}");
    error.to_string()
}

#[tokio::test]
async fn an_object_that_swells_is_refused_before_it_takes_the_hosts_memory() {
    let repository = ScratchRepository::with_one_commit();
    let commit: CommitId = "0123456789012345678901234567890123456789".parse().unwrap();
    let pack = swelling().await;
    assert!(pack.len() < 4 << 20, "it is small: {} bytes", pack.len());
    // Where there is room for it, it is refused for what it is.
    for (memory_bytes, why) in [(TIGHT, "ut of memory"), (4 * LARGE, "tree")] {
        let bench = Bench::with_limits(Limits { memory_bytes, ..Limits::default() });
        let checkout = boxed(&bench, &repository, user()).await;
        std::fs::write(result_of(&checkout).join("pack-x.pack"), &pack).unwrap();
        let error = refused(&bench, &checkout, &commit, "pack-x.pack").await;
        assert!(error.contains(why), "{error}");
    }
}

#[tokio::test]
async fn a_tree_with_more_paths_than_memory_is_refused() {
    let repository = ScratchRepository::with_one_commit();
    let before = repository.fingerprint();
    let bench = Bench::with_limits(Limits { memory_bytes: TIGHT, ..Limits::default() });
    let checkout = boxed(&bench, &repository, user()).await;
    // 20 objects, 20 to the sixth paths.
    let (commit, pack) = branching(&checkout, 6, 20);
    let error = refused(&bench, &checkout, &commit, &pack).await;
    assert!(error.contains("ut of memory"), "{error}");

    let bench = Bench::with_limits(Limits { files: 399, ..Limits::default() });
    let checkout = boxed(&bench, &repository, user()).await;
    let (commit, pack) = branching(&checkout, 2, 20);
    let claim = Claim { commit: &commit, pack: &pack };
    let error = bench.checkouts.bring_claimed(&checkout, claim).await.unwrap_err();
    assert!(matches!(error, CheckoutError::TooManyFiles { limit: 399 }), "{error:?}");
    assert_eq!(repository.fingerprint(), before);
}

/// Leaves a commit on the base whose tree has `width` entries on each of `depth` levels, all of them the same.
fn branching(checkout: &Checkout, depth: u32, width: u32) -> (CommitId, String) {
    let objects = checkout.sandbox_mounts().unwrap();
    let place = objects.directory.join("objects");
    std::fs::remove_dir(&place).unwrap();
    std::os::unix::fs::symlink(&objects.objects, &place).unwrap();
    let script = checkout.tmp.join("branching");
    let lines = format!(
        "set -e
         entry=\"100644 blob $(echo x | git hash-object -w --stdin)\"
         for level in $(seq {depth}); do
             tree=$(for n in $(seq {width}); do printf '%s\\te%s\\n' \"$entry\" \"$n\"; done | git mktree)
             entry=\"040000 tree $tree\"
         done
         export GIT_AUTHOR_NAME=openTiger GIT_AUTHOR_EMAIL=opentiger@localhost
         export GIT_COMMITTER_NAME=openTiger GIT_COMMITTER_EMAIL=opentiger@localhost
         git update-ref HEAD $(git commit-tree -m bomb -p HEAD $tree)"
    );
    std::fs::write(&script, lines).unwrap();
    git_in(&checkout.work, &["-c", &format!("alias.bomb=!sh '{}'", script.display()), "bomb"]);
    leave(checkout, "HEAD", checkout.base_commit.as_str())
}

/// A pack of one tree that is nothing but zeros.
async fn swelling() -> Vec<u8> {
    const TREE: u8 = 2;
    let mut pack = b"PACK\0\0\0\x02\0\0\0\x01".to_vec();
    let mut size = LARGE;
    let mut byte = TREE << 4 | u8::try_from(size & 15).unwrap();
    size >>= 4;
    while size > 0 {
        pack.push(byte | 0x80);
        byte = u8::try_from(size & 0x7f).unwrap();
        size >>= 7;
    }
    pack.push(byte);
    pack.extend(deflated_zeros());
    let hash = hash(pack.clone()).await;
    pack.extend(hash);
    pack
}

/// A zlib stream of zeros: one of them, and copies of the 258 before by the fixed codes of RFC 1951, turned round.
fn deflated_zeros() -> Vec<u8> {
    use std::iter::{once, repeat_n};
    let copies = repeat_n((13, 0b1010_0011), usize::try_from(COPIES).unwrap());
    let codes = once((3, 0b011)).chain(once((8, 0b0000_1100))).chain(copies).chain(once((7, 0)));
    let (mut stream, mut held, mut bits) = (vec![0x78, 0x01], 0_u32, 0);
    for (width, code) in codes {
        held |= code << bits;
        bits += width;
        while bits >= 8 {
            stream.push((held & 0xff) as u8);
            held >>= 8;
            bits -= 8;
        }
    }
    stream.push((held & 0xff) as u8);
    let sum = u32::try_from(LARGE % 65_521).unwrap() << 16 | 1;
    stream.extend(sum.to_be_bytes());
    stream
}

/// The SHA-1 of a content.
async fn hash(content: Vec<u8>) -> Vec<u8> {
    let mut tool = Tool::new("sha1sum", "/");
    tool.env.insert("PATH".to_owned(), search_path());
    tool.stdin = content;
    let digits = tool.run().await.unwrap().stdout;
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    digits[..40].chunks(2).map(byte).collect()
}
