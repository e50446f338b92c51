"""Share a trained model, as a folder or on Hugging Face: `python -m fusion.publish run=DIR repo=OWNER/NAME`."""

from omegaconf import DictConfig

from fusion.job.cli import command


@command("publish")
def main(cfg: DictConfig) -> None:
    """Command `python -m fusion.publish`."""
    from fusion.sharing.publish import publish  # late: it imports PyTorch and Lightning

    publish(cfg)


if __name__ == "__main__":
    main()
