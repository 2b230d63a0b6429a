"""The rulebook in force: replaced as one reference by what is on disk, or not at all."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from config.findings import InvalidDocument
from policies.rulebook import Rulebook
from policies.table import Table
from proxy.policy_reading import fingerprint
from proxy.rulebooks import Rulebooks
from store.policy_history import StoredPolicy
from tests.policies.samples import LADDER, NOW, allowed, caller, catalogue, model

OPEN = "version: 1\nrules: [{id: all, allow: use}]\n"
CLOSED = "version: 1\nrules: [{id: none, deny: use}, {id: all, allow: use}]\n"
BROKEN = "version: 1\nrules: [{id: all, alow: use}]\n"
LATER = NOW + timedelta(minutes=1)


def passes(rulebook: Rulebook) -> bool:
    return allowed(rulebook, caller(), "video:wan2.2")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "main.yaml").write_text(OPEN)
    return tmp_path


@pytest.fixture
def rulebooks(folder: Path) -> Rulebooks:
    return Rulebooks(folder, LADDER, NOW)


def codes(rulebooks: Rulebooks) -> list[str]:
    return [finding.code for finding in rulebooks.status.findings]


def test_without_a_folder_the_ladder_is_in_force() -> None:
    """The built-in policy never changes on disk."""
    rulebooks = Rulebooks(None, LADDER, NOW)
    assert passes(rulebooks.current)
    assert not allowed(rulebooks.current, caller(), "video:veo3")
    assert not rulebooks.changed_on_disk()


@pytest.mark.parametrize("text", [BROKEN, "", "rules:", "- a\n", "version: 1\nrules: {\n", "\0", "version: 2\n"])
def test_there_is_no_start_without_a_valid_policy(tmp_path: Path, text: str) -> None:
    """Nothing may be forwarded while nobody has said what is allowed."""
    (tmp_path / "main.yaml").write_text(text)
    with pytest.raises(InvalidDocument):
        Rulebooks(tmp_path, LADDER, NOW)


def test_an_empty_folder_is_no_policy(tmp_path: Path) -> None:
    """Neither is one that holds other files, nor one that is not there."""
    (tmp_path / "readme.txt").write_text("hello")
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(InvalidDocument) as caught:
            Rulebooks(folder, LADDER, NOW)
        assert [finding.code for finding in caught.value.findings] == ["no-policy"]


def test_a_change_is_seen_and_put_in_force(rulebooks: Rulebooks, folder: Path) -> None:
    """One assignment: whoever holds the old rulebook decides by the old one to the end."""
    old = rulebooks.current
    assert not rulebooks.changed_on_disk()
    (folder / "main.yaml").write_text(CLOSED)
    assert rulebooks.changed_on_disk()
    assert rulebooks.reload(LADDER, LATER) == ()
    assert not rulebooks.changed_on_disk()
    assert (passes(old), passes(rulebooks.current)) == (True, False)
    assert rulebooks.status.revision == rulebooks.current.revision != old.revision
    assert rulebooks.status.loaded_at == LATER


def test_the_same_content_is_the_same_policy(rulebooks: Rulebooks, folder: Path) -> None:
    """Touching a file, or writing it again, changes neither the revision nor the time since when it is in force."""
    before = rulebooks.current
    (folder / "main.yaml").write_text(OPEN)
    os.utime(folder / "main.yaml", (0, 0))
    assert not rulebooks.changed_on_disk()
    assert rulebooks.reload(LADDER, LATER) == ()
    assert rulebooks.current is before
    assert rulebooks.status.loaded_at == NOW


@pytest.mark.parametrize("text", [BROKEN, "", CLOSED[:-10], "version: 1\nrules: []\n" * 2, "\xff\0"])
def test_a_bad_file_changes_nothing(rulebooks: Rulebooks, folder: Path, text: str) -> None:
    """The last good policy stays in force, and what is wrong is known; the next good one clears it."""
    before = rulebooks.current
    (folder / "main.yaml").write_text(text)
    findings = rulebooks.reload(LADDER, LATER)
    assert findings
    assert rulebooks.current is before
    assert rulebooks.status.using_last_good
    assert rulebooks.status.findings == findings
    assert (rulebooks.status.revision, rulebooks.status.loaded_at) == (before.revision, NOW)
    assert not rulebooks.changed_on_disk(), "a bad file is reported once, not every second"
    (folder / "main.yaml").write_text(CLOSED)
    assert rulebooks.reload(LADDER, LATER) == ()
    assert not passes(rulebooks.current)
    assert not rulebooks.status.using_last_good


def test_a_file_that_is_being_written_is_not_half_a_policy(rulebooks: Rulebooks, folder: Path) -> None:
    """At no byte of a slow write does the policy in force mean anything but the old text or the new one."""
    meanings = set()
    for length in range(len(CLOSED) + 1):
        (folder / "main.yaml").write_text(CLOSED[:length])
        rulebooks.reload(LADDER, LATER)
        meanings.add(passes(rulebooks.current))
    assert meanings == {True, False}
    assert not passes(rulebooks.current)


def test_an_emptied_folder_changes_nothing(rulebooks: Rulebooks, folder: Path) -> None:
    """Deleting the last file is a mistake, not a policy without rules; nor is the ladder put in its place."""
    (folder / "main.yaml").unlink()
    assert rulebooks.changed_on_disk()
    rulebooks.reload(LADDER, LATER)
    assert codes(rulebooks) == ["no-policy"]
    assert passes(rulebooks.current)
    folder.rmdir()
    rulebooks.reload(LADDER, LATER)
    assert passes(rulebooks.current)


def test_a_file_may_be_replaced_by_renaming(rulebooks: Rulebooks, folder: Path) -> None:
    """As editors save: a new file takes the name of the old one, with the old one's times."""
    before = (folder / "main.yaml").stat()
    (folder / "main.yaml.tmp").write_text(CLOSED)
    assert not rulebooks.changed_on_disk(), "a file with another ending is no policy"
    os.utime(folder / "main.yaml.tmp", ns=(before.st_atime_ns, before.st_mtime_ns))
    (folder / "main.yaml.tmp").rename(folder / "main.yaml")
    assert rulebooks.changed_on_disk()
    rulebooks.reload(LADDER, LATER)
    assert not passes(rulebooks.current)


def test_a_folder_may_be_swapped_by_a_link(tmp_path: Path) -> None:
    """As orchestrators mount settings: the folder is a link, and the link is turned to another folder."""
    for name, text in (("one", OPEN), ("two", CLOSED)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "main.yaml").write_text(text)
    link = tmp_path / "policies"
    link.symlink_to("one")
    rulebooks = Rulebooks(link, LADDER, NOW)
    (tmp_path / "new").symlink_to("two")
    (tmp_path / "new").rename(link)
    assert rulebooks.changed_on_disk()
    rulebooks.reload(LADDER, LATER)
    assert not passes(rulebooks.current)


def test_several_files_are_one_policy(rulebooks: Rulebooks, folder: Path) -> None:
    """A second file counts as soon as it is there and no longer when it is gone; one bad file refuses all of them."""
    (folder / "extra.yml").write_text("version: 1\nrules: [{id: stop, deny: use}]\n")
    assert rulebooks.changed_on_disk()
    rulebooks.reload(LADDER, LATER)
    assert not passes(rulebooks.current)
    (folder / "extra.yml").write_text(BROKEN)
    (folder / "main.yaml").write_text(OPEN + "# changed\n")
    rulebooks.reload(LADDER, LATER)
    assert not passes(rulebooks.current)
    (folder / "extra.yml").unlink()
    rulebooks.reload(LADDER, LATER)
    assert passes(rulebooks.current)


def test_a_file_that_cannot_be_read_changes_nothing(rulebooks: Rulebooks, folder: Path) -> None:
    """A link to nowhere, or a folder with the ending of a policy: a finding, and no surprise."""
    (folder / "more.yaml").symlink_to("nowhere")
    assert rulebooks.reload(LADDER, LATER)
    (folder / "more.yaml").unlink()
    (folder / "more.yaml").mkdir()
    assert rulebooks.reload(LADDER, LATER)
    assert passes(rulebooks.current)


def test_a_new_catalogue_is_put_in_force(rulebooks: Rulebooks) -> None:
    """Prices and models change without the policy changing."""
    cheaper = catalogue(model("video:wan2.2"), model("new:model"), revision=2)
    assert rulebooks.reload(cheaper, LATER) == ()
    assert rulebooks.current.catalogue is cheaper
    assert allowed(rulebooks.current, caller(), "new:model")


def test_a_new_catalogue_is_put_in_force_beside_a_bad_file(rulebooks: Rulebooks, folder: Path) -> None:
    """A model that operators switch off is off, also while somebody's edit of the policy is broken."""
    (folder / "main.yaml").write_text(BROKEN)
    rulebooks.reload(LADDER, LATER)
    assert passes(rulebooks.current)
    rulebooks.reload(catalogue(model("video:wan2.2", enabled=False), revision=2), LATER)
    assert not passes(rulebooks.current)
    assert rulebooks.current.catalogue.revision == 2
    assert rulebooks.status.using_last_good


def test_a_catalogue_that_a_policy_does_not_fit_changes_nothing(rulebooks: Rulebooks) -> None:
    """A tier that the ladder does not have is a finding; the old catalogue and policy stay, together, and are tried
    again when something changes.
    """
    before = rulebooks.current
    rulebooks.reload(catalogue(model("video:wan2.2", tier="imperial"), revision=2), LATER)
    assert rulebooks.status.using_last_good
    assert rulebooks.current is before
    assert rulebooks.knows(2)
    assert not rulebooks.knows(3)


def test_the_status_shows_what_is_in_force(rulebooks: Rulebooks) -> None:
    """For `/readyz` and the metrics."""
    status = rulebooks.status
    assert (status.revision, status.loaded_at) == (rulebooks.current.revision, datetime(2026, 1, 15, 12, tzinfo=UTC))
    assert (status.using_last_good, status.findings) == (False, ())


def test_a_table_that_differs_from_casbin_is_not_put_in_force(
    rulebooks: Rulebooks, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were the table to forget who is denied, the sample would show it, and the old policy would stay."""
    about = Table.about
    monkeypatch.setattr(Table, "about", lambda self, call: about(self, call) & ~1)
    (folder / "main.yaml").write_text(CLOSED)
    (finding,) = rulebooks.reload(LADDER, LATER)
    assert finding.code == "table-differs"
    assert "Casbin says Verdict(allowed=False, rule='none')" in finding.message
    monkeypatch.undo()
    assert passes(rulebooks.current)


# What the store remembers.


def kept(rulebooks: Rulebooks, overrules: str | None = None) -> StoredPolicy:
    """The policy in force as the store keeps it."""
    return StoredPolicy(7, rulebooks.current.revision, rulebooks.policy.texts, "files", overrules, NOW)


def test_a_process_that_starts_with_a_bad_file_has_the_last_good_policy(rulebooks: Rulebooks, folder: Path) -> None:
    """From the store, with the findings about what is on disk; the next good file counts again."""
    stored = kept(rulebooks)
    (folder / "main.yaml").write_text(BROKEN)
    started = Rulebooks(folder, LADDER, LATER, None, stored)
    assert passes(started.current)
    assert started.current.revision == rulebooks.current.revision
    assert codes(started) == ["unknown-key"]
    assert started.status.using_last_good
    (folder / "main.yaml").write_text(CLOSED)
    assert started.reload(LADDER, LATER, stored) == ()
    assert not passes(started.current)


def test_a_kept_policy_that_is_no_good_either_is_no_start(folder: Path, rulebooks: Rulebooks) -> None:
    """Then the findings are those about the files, which somebody can mend."""
    (folder / "main.yaml").write_text(BROKEN)
    stored = StoredPolicy(7, "x", (("main.yaml", "version: 3\n"),), "files", None, NOW)
    with pytest.raises(InvalidDocument) as caught:
        Rulebooks(folder, LADDER, LATER, None, stored)
    assert [finding.code for finding in caught.value.findings] == ["unknown-key"]


def test_a_rollback_stands_in_for_the_files_that_were_on_disk(rulebooks: Rulebooks, folder: Path) -> None:
    """Also in a process that starts later; and until the files change, when they count again."""
    earlier = kept(rulebooks)
    (folder / "main.yaml").write_text(CLOSED)
    rulebooks.reload(LADDER, LATER)
    assert not passes(rulebooks.current)
    back = replace(earlier, number=9, overrules=fingerprint(folder))
    assert not rulebooks.knows_stored(9)
    assert rulebooks.reload(LADDER, LATER, back) == ()
    assert (passes(rulebooks.current), rulebooks.status.rolled_back) == (True, True)
    assert rulebooks.knows_stored(9)
    assert passes(Rulebooks(folder, LADDER, LATER, None, back).current)
    (folder / "main.yaml").write_text(CLOSED + "# mended\n")
    assert rulebooks.reload(LADDER, LATER, back) == ()
    assert (passes(rulebooks.current), rulebooks.status.rolled_back) == (False, False)


def test_files_are_put_in_force_when_they_have_come_to_rest(rulebooks: Rulebooks, folder: Path) -> None:
    """A file that differs from the last look may be half written, and a half may be a policy."""
    assert rulebooks.settled()
    (folder / "main.yaml").write_text(CLOSED[: CLOSED.index("rules")])
    assert not rulebooks.settled()
    (folder / "main.yaml").write_text(CLOSED)
    assert not rulebooks.settled()
    assert rulebooks.settled()
    assert rulebooks.changed_on_disk()


def test_a_fault_of_ours_is_tried_again(rulebooks: Rulebooks, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that could not be compiled for another reason than their own count as changed until they are."""

    def broken(*_: object) -> None:
        raise SystemError("AST constructor recursion depth mismatch")

    (folder / "main.yaml").write_text(CLOSED)
    monkeypatch.setattr("proxy.rulebooks.compiled", broken)
    with pytest.raises(SystemError):
        rulebooks.reload(LADDER, LATER)
    assert passes(rulebooks.current)
    assert rulebooks.changed_on_disk()
    monkeypatch.undo()
    assert rulebooks.reload(LADDER, LATER) == ()
    assert not passes(rulebooks.current)
