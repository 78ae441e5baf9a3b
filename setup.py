"Read settings.ini; the notebooks are the source, nbdev exports them to steer_nb/."
from configparser import ConfigParser
from pathlib import Path
from setuptools import find_packages, setup

here = Path(__file__).resolve().parent
parser = ConfigParser(delimiters=['='])
parser.read(here/'settings.ini', encoding='utf-8')
cfg = parser['DEFAULT']

setup(
    name=cfg['lib_name'], version=cfg['version'], description=cfg['description'], author=cfg['author'],
    author_email=cfg['author_email'], url=cfg['git_url'], license='Apache-2.0', license_files=['LICENSE'],
    keywords=cfg['keywords'].split(), python_requires='>=' + cfg['min_python'],
    long_description=(here/'README.md').read_text(encoding='utf-8'), long_description_content_type='text/markdown',
    install_requires=cfg['requirements'].split(),
    extras_require=dict(dev=cfg['dev_requirements'].split(), quant=cfg['quant_requirements'].split(),
                        lm_eval=cfg['lm_eval_requirements'].split(), slurm=cfg['slurm_requirements'].split(),
                        docs=cfg['docs_requirements'].split()),
    # data/ travels inside the package under the name steer_nb.assets, the notebook that the launcher runs as steer_nb.notebooks
    packages=find_packages(str(here), include=['steer_nb', 'steer_nb.*']) + ['steer_nb.assets', 'steer_nb.notebooks'],
    package_dir={'steer_nb.assets': 'data', 'steer_nb.notebooks': 'nbs'},
    package_data={'steer_nb': ['py.typed'], 'steer_nb.assets': ['**/*'], 'steer_nb.notebooks': ['run_exp.ipynb']},
    include_package_data=False, zip_safe=False,
    entry_points=dict(nbdev=['steer_nb=steer_nb._modidx:d'], console_scripts=cfg['console_scripts'].split()),
)
