"""A page in the browser to fuse two pictures: `python -m fusion.demo`."""

from omegaconf import DictConfig

from fusion.job.cli import command


@command("demo")
def main(cfg: DictConfig) -> None:
    """Command `python -m fusion.demo`."""
    from fusion.webpage.serve import check_gradio, serve  # late: what follows imports PyTorch and Gradio

    check_gradio()
    serve(cfg)


if __name__ == "__main__":
    main()
