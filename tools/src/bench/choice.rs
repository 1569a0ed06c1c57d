//! Which workloads there are.

use clap::ValueEnum;

/// What `--workload` can say.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Choice {
    LoadBulk,
    LoadSeq,
    LoadRand,
    GetRand,
    GetZipf,
    GetRandWriters,
    GetMany,
    ScanFull,
    #[value(name = "scan-100")]
    Scan100,
    PutSync,
    PutAsync,
    UpdateRand,
    YcsbA,
    YcsbB,
    YcsbC,
    YcsbD,
    YcsbE,
    YcsbF,
    Pause,
    Blob,
    Reopen,
    Recover,
    Costs,
    All,
}

impl Choice {
    /// What "all" stands for: all but the curves of costs, which have databases and sizes of their own.
    const EACH: [Choice; 22] = [
        Choice::LoadBulk,
        Choice::LoadSeq,
        Choice::LoadRand,
        Choice::GetRand,
        Choice::GetZipf,
        Choice::GetRandWriters,
        Choice::GetMany,
        Choice::ScanFull,
        Choice::Scan100,
        Choice::PutSync,
        Choice::PutAsync,
        Choice::UpdateRand,
        Choice::YcsbA,
        Choice::YcsbB,
        Choice::YcsbC,
        Choice::YcsbD,
        Choice::YcsbE,
        Choice::YcsbF,
        Choice::Pause,
        Choice::Blob,
        Choice::Reopen,
        Choice::Recover,
    ];

    pub(super) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// The workloads of a list, in order.
    pub(super) fn each(list: &[Choice]) -> Vec<Choice> {
        let one = |choice: &Choice| if *choice == Choice::All { Choice::EACH.to_vec() } else { vec![*choice] };
        list.iter().flat_map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_all_but_costs() {
        let all = Choice::each(&[Choice::All]);
        for choice in Choice::value_variants() {
            assert_eq!(all.contains(choice), !matches!(choice, Choice::All | Choice::Costs), "{choice:?}");
        }
        let more = Choice::each(&[Choice::Costs, Choice::All]);
        assert_eq!((more.first(), more.len()), (Some(&Choice::Costs), all.len() + 1));
        assert_eq!(Choice::Scan100.name(), "scan-100");
    }
}
