//! Reads a whole list and checks every row on every core, in memory that does not grow with it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{BatchError, Order};
use crate::core::batch::{
    Columns, ListError, MAX_PROBLEMS, Row, RowProblem, Rows, Slip, Suspects, Twins, unique,
};

/// Rows that one thread checks at a time.
const BLOCK: usize = 256;

/// Opens the list at its start.
pub type OpenRows<'a> = &'a (dyn Fn() -> Result<Rows, BatchError> + Sync);
/// What a row asks for.
pub type OrderOf<'a> = &'a (dyn Fn(&Row) -> Result<Order, RowProblem> + Sync);

/// A list to check.
pub struct ListCheck<'a> {
    /// Opens it.
    pub rows: OpenRows<'a>,
    /// Checks a row.
    pub order: OrderOf<'a>,
    /// How many threads check rows.
    pub threads: usize,
}

/// What a list holds.
#[derive(Debug)]
pub struct Checked {
    /// How many good rows.
    pub devices: u64,
    /// All its columns.
    pub columns: Columns,
    /// Its slips, by line; at most [`MAX_PROBLEMS`].
    pub problems: Vec<RowProblem>,
}

struct Shared {
    rows: Rows,
    prints: Twins,
    devices: u64,
    problems: Vec<RowProblem>,
    end: Option<ListError>,
}

impl ListCheck<'_> {
    /// Reads it to its end, or until there are too many slips.
    ///
    /// # Errors
    /// `list.*` when it cannot be read as a list at all.
    pub fn run(&self) -> Result<Checked, BatchError> {
        let shared = Mutex::new(Shared {
            rows: (self.rows)()?,
            prints: Twins::default(),
            devices: 0,
            problems: Vec::new(),
            end: None,
        });
        std::thread::scope(|scope| {
            for _ in 0..self.threads.max(1) {
                scope.spawn(|| self.work(&shared));
            }
        });
        let shared = shared.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut problems = shared.problems;
        if problems.is_empty()
            && let Some(end) = shared.end
        {
            return Err(end.into());
        }
        if problems.len() < MAX_PROBLEMS {
            self.find_repeats(shared.prints, &mut problems)?;
        }
        problems.sort_by_key(|problem| problem.line);
        problems.truncate(MAX_PROBLEMS);
        if problems.is_empty() && shared.devices == 0 {
            return Err(ListError::Empty.into());
        }
        Ok(Checked {
            devices: shared.devices,
            columns: shared.rows.columns().clone(),
            problems,
        })
    }

    fn work(&self, shared: &Mutex<Shared>) {
        loop {
            let block = take(&mut lock(shared));
            if block.is_empty() {
                return;
            }
            let slips: Vec<RowProblem> = block
                .iter()
                .filter_map(|row| (self.order)(row).err())
                .collect();
            if !slips.is_empty() {
                lock(shared).problems.extend(slips);
            }
        }
    }

    /// Values that may be there only once: suspects from their fingerprints, part by part, and
    /// each group of suspects compared in a reading of its own.
    fn find_repeats(&self, first: Twins, problems: &mut Vec<RowProblem>) -> Result<(), BatchError> {
        let others: Vec<Twins> = first.others().collect();
        self.compare(first.repeated(), problems)?;
        for mut part in others {
            self.each_row(&mut |row| unique::add(&mut part, row))?;
            self.compare(part.repeated(), problems)?;
        }
        Ok(())
    }

    fn compare(
        &self,
        groups: Vec<Suspects>,
        problems: &mut Vec<RowProblem>,
    ) -> Result<(), BatchError> {
        for mut group in groups {
            if problems.len() < MAX_PROBLEMS {
                self.each_row(&mut |row| unique::look(&mut group, row, problems))?;
            }
        }
        Ok(())
    }

    fn each_row(&self, work: &mut dyn FnMut(&Row)) -> Result<(), BatchError> {
        (self.rows)()?.flatten().for_each(|row| work(&row));
        Ok(())
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The next rows; none when all are read, or enough is wrong.
fn take(shared: &mut Shared) -> Vec<Row> {
    let mut block = Vec::with_capacity(BLOCK);
    while block.len() < BLOCK && shared.problems.len() < MAX_PROBLEMS {
        match shared.rows.next() {
            None => break,
            Some(Ok(row)) => {
                unique::add(&mut shared.prints, &row);
                shared.devices += 1;
                block.push(row);
            }
            Some(Err(Slip::Row(slips))) => shared.problems.extend(slips),
            Some(Err(Slip::End(error))) => shared.end = Some(error),
        }
    }
    block
}
