# The DAG of the reproduction: data -> teachers -> distillation -> evaluation -> tables and figures.
#
#   snakemake                                        everything, at smoke scale
#   snakemake --config scale=mini -- figure1         one item, at another scale
#   snakemake --config scale=smoke root=results/smoke -- tables            from committed records
#   snakemake work/smoke/runs/scratch/phi2_1b/rkl/seed0/heldout.json      one record of one run
#
# What runs is said in config/; every rule is one `tad ...` line. Targets go after `--`.
from snakemake.utils import min_version

min_version("9.27")


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/resources.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/teachers.smk"
include: "workflow/rules/distill.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/analyse.smk"
include: "workflow/rules/targets.smk"


# Here, since Snakemake takes no default from an included file.
rule all:
    default_target: True
    input:
        rules.figures.input,
        rules.tables.input,
        outputs(FINDINGS),
    localrule: True


onsuccess:
    if all((LAYOUT.run(run) / "manifest.json").is_file() for run in SUITE.runs()):
        for states in (LAYOUT.root / "states").glob("**/states.bin"):
            states.unlink()
