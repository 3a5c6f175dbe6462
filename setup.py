"""Build the wheel of iomt_ids. Here is what must hold; exact versions with hashes are in requirements/."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "lib/iomt_ids/__init__.py").read_text(encoding="utf-8"))[1]

setup(
    name="iomt_ids",
    version=VERSION,
    description="Learn to see cyber attacks in the traffic of hospital devices, on a Spark cluster",
    package_dir={"": "lib"},
    packages=find_packages("lib"),
    package_data={"iomt_ids": ["**/*.j2", "**/*.css", "**/*.js", "py.typed"]},
    python_requires=">=3.11,<3.13",  # TensorFlow 2.18 has no wheel for 3.13
    install_requires=[
        "pyspark>=4.2,<4.3",  # delta-spark 4.4 is made for it
        "delta-spark==4.4.0",
        "numpy>=2.0,<2.1",  # TensorFlow 2.18 from above, pyarrow 26 from below
        "pandas>=2.2,<3",
        "pyarrow>=23.0.1",  # below it there is an advisory
        "scikit-learn>=1.6",  # grows the isolation forest
        "shap>=0.51,<0.52",  # exact TreeSHAP; how it is given trees is not promised to stay
        "xxhash>=3.5",  # names the content of captures
        "numba>=0.61",  # compiles the histogram trees and their scorer
        "pyyaml",
        "psutil",
        "jinja2",
        "matplotlib",
        "packaging",
    ],
    extras_require={
        # The dense net. Horovod has no wheel: see scripts/set_up.sh for how it is compiled.
        "deep": ["tensorflow-cpu==2.18.1", "keras>=3.15,<4", "horovod==0.28.1"],
        # models.gradient_boosted.engine=xgboost, for training only; requirements/xgboost.lock has the hashes.
        "xgboost": ["xgboost-cpu>=3.2,<4", "scikit-learn"],
    },
    entry_points={"console_scripts": ["iomt-ids=iomt_ids.cli:main"]},
)
